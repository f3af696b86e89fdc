"""The suite's MCP server: one use case, served over Google's gRPC service and over streamable HTTP."""
