#!/usr/bin/env bash
# Prints the path of the pinned uv, installing it into .cache first where it is not there yet.
set -euo pipefail
cd "$(dirname "$0")/.."
UV=0.13.8
python=${PYTHON:-python3}
uv=.cache/uv-$UV/bin/uv
if [ ! -x "$uv" ]; then
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
    || { echo "Python 3.11 or newer is needed; $python is $("$python" --version 2>&1). Set PYTHON=/path/to/python3.11." >&2; exit 1; }
  if ! { "$python" -m venv ".cache/uv-$UV" && ".cache/uv-$UV/bin/pip" install -q "uv==$UV"; } >&2; then
    # A Python without ensurepip (Debian's, without python3-venv) can still have pip.
    "$python" -m pip install -q --target ".cache/uv-$UV" "uv==$UV" >&2
  fi
fi
echo "$uv"
