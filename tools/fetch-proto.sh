#!/usr/bin/env bash
# Copies the contracts of others that ours import into .cache/proto, from the packages that publish them.
set -euo pipefail
cd "$(dirname "$0")/.."
PROTOVALIDATE=v1.2.2
into=.cache/proto
stamp=$into/.protovalidate-$PROTOVALIDATE
[ -e "$stamp" ] && exit 0
rm -rf "$into"
mkdir -p "$into/buf/validate" "$into/google/rpc"
module=$(cd / && go mod download -json "github.com/bufbuild/protovalidate@$PROTOVALIDATE" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
install -m 0644 "$module/proto/protovalidate/buf/validate/validate.proto" "$into/buf/validate/"
site=$(.venv/bin/python -c 'import google.rpc.status_pb2 as m, pathlib; print(pathlib.Path(m.__file__).parent)')
install -m 0644 "$site/status.proto" "$into/google/rpc/"
touch "$stamp"
