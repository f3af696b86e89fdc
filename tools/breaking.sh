#!/usr/bin/env bash
# Compares the contracts with those of a revision: the one given, else origin/main, else the commit before.
set -euo pipefail
cd "$(dirname "$0")/.."
base=${1:-$(git rev-parse -q --verify origin/main || true)}
[ "$base" != "$(git rev-parse HEAD)" ] && [ -n "$base" ] || base=$(git rev-parse -q --verify HEAD~1 || git rev-parse HEAD)
if ! git cat-file -e "$base:proto" 2>/dev/null; then
  echo "no contracts at $base to compare with"
  exit 0
fi
tools/fetch-proto.sh
rm -rf .cache/base && mkdir -p .cache/base/.cache
git archive "$base" proto buf.yaml | tar -x -C .cache/base
cp -r .cache/proto .cache/base/.cache/proto
.venv/bin/buf build .cache/base -o .cache/base.binpb
.venv/bin/buf build -o .cache/now.binpb
.venv/bin/buf breaking .cache/now.binpb --against .cache/base.binpb --config '{"version":"v2","breaking":{"use":["FILE"]}}'
echo "no breaking change against $base"
