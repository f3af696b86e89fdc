"""Tools of MCP servers. What imports the package `mcp` is itself imported when the first server is connected to."""
