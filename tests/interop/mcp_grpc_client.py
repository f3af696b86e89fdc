"""A client of `model_context_protocol.Mcp` on Google's package alone: `python mcp_grpc_client.py ADDRESS`."""

import json
import sys

import grpc
from mcp_grpc_transport_proto import mcp_messages_pb2 as messages
from mcp_grpc_transport_proto import mcp_pb2_grpc


def main(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = mcp_pb2_grpc.McpStub(channel)
        listed = stub.ListTools(messages.ListToolsRequest(), timeout=30)
        request = messages.CallToolRequest(request={"name": "builtin_calculator"})
        request.request.arguments.update({"expression": "17 + 4"})
        called = stub.CallTool(request, timeout=30)
        request.request.name = "nobody"
        try:
            stub.CallTool(request, timeout=30)
            refused = ""
        except grpc.RpcError as error:
            refused = dict(error.trailing_metadata())["mcp-error-code"]
    told = {"tools": [tool.name for tool in listed.tools], "text": called.content[0].text.text, "refused": refused}
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
