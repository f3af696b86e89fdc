#!/usr/bin/env bash
# Writes gen/ (or the folder given) from proto/. Needs the virtual environment and Go.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-gen}
PROTOC_GEN_GO=v1.36.11
PROTOC_GEN_GO_GRPC=v1.6.2
python=.venv/bin/python
export GOBIN="$PWD/.cache/bin" GOFLAGS=-mod=mod
export PATH="$PWD/.venv/bin:$GOBIN:$PATH"

tools/fetch-proto.sh
[ -x "$GOBIN/protoc-gen-go" ] && "$GOBIN/protoc-gen-go" --version | grep -q "$PROTOC_GEN_GO" \
  || go install "google.golang.org/protobuf/cmd/protoc-gen-go@$PROTOC_GEN_GO"
[ -x "$GOBIN/protoc-gen-go-grpc" ] && "$GOBIN/protoc-gen-go-grpc" --version | grep -q "${PROTOC_GEN_GO_GRPC#v}" \
  || go install "google.golang.org/grpc/cmd/protoc-gen-go-grpc@$PROTOC_GEN_GO_GRPC"

mapfile -t ours < <(cd proto && find dynamicagents -name '*.proto' | sort)
new=$(mktemp -d .cache/generated.XXXX)
trap 'rm -rf "$new"' EXIT
mkdir -p "$new/python" "$new/go" "$out"
module=github.com/dynamic-agents/dynamic-agents/gen/go
$python -m grpc_tools.protoc -Iproto -I.cache/proto \
  --python_out="$new/python" --grpc_python_out="$new/python" \
  --pyi_out="$new/python" --mypy_grpc_out=quiet:"$new/python" \
  --go_out="$new/go" --go_opt=module=$module --go-grpc_out="$new/go" --go-grpc_opt=module=$module \
  "${ours[@]}"
# The rules' own options: Python has no package that carries them, Go has buf.build/gen/go.
$python -m grpc_tools.protoc -I.cache/proto --python_out="$new/python" --pyi_out="$new/python" buf/validate/validate.proto
find "$new/python" -type d -name v1 -prune -exec touch {}/py.typed \;
# Old and new change places in one go each: whoever imports meanwhile sees the one or the other.
for part in python go/dynamicagents; do
  mkdir -p "$(dirname "$out/$part")"
  rm -rf "$new/old" && { [ ! -e "$out/$part" ] || mv "$out/$part" "$new/old"; }
  mv "$new/$part" "$out/$part"
done
