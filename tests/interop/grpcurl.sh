#!/usr/bin/env bash
# A terminal's view of the suite, by reflection alone: list, describe, health, CreateAgent, ExecuteStream, an error.
# Usage: grpcurl.sh REGISTRY EXECUTION, with grpcurl on the PATH.
set -euo pipefail
registry=$1 execution=$2

say() { printf '== %s\n' "$1"; }

say list
grpcurl -plaintext "$registry" list
grpcurl -plaintext "$execution" list
say describe
grpcurl -plaintext "$execution" describe dynamicagents.execution.v1.ExecutionService.ExecuteStream
grpcurl -plaintext "$registry" describe dynamicagents.registry.v1.AgentSpec
say health
grpcurl -plaintext "$execution" grpc.health.v1.Health/Check
grpcurl -plaintext -d '{"service": "dynamicagents.registry.v1.AgentService"}' "$registry" grpc.health.v1.Health/Check
say create
grpcurl -plaintext -d '{
  "agent": {
    "agent_id": "from-a-terminal",
    "spec": {"model": {"model": "offline"}, "tools": [{"tool_id": "builtin/calculator"}]}
  }
}' "$registry" dynamicagents.registry.v1.AgentService/CreateAgent
say stream
grpcurl -plaintext -d '{"agent_id": "from-a-terminal", "input": "What is 6 * 7?"}' \
  "$execution" dynamicagents.execution.v1.ExecutionService/ExecuteStream
say error
grpcurl -plaintext -d '{"agent_id": "nobody"}' \
  "$registry" dynamicagents.registry.v1.AgentService/GetAgent 2>&1 || true
