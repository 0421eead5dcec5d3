#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# fetch_s3.sh DIRECTORY: puts two S3 servers for tests into DIRECTORY, a Python environment of its own: OpenStack
# Swift with its s3api, and moto. Both verify signatures. Nothing of the system is touched. A second call finds
# everything in place. tests/tools/s3_server.py runs them.
set -euo pipefail

if [ $# -ne 1 ] || [ "$1" = --help ]; then
    echo "usage: fetch_s3.sh DIRECTORY" >&2
    exit 2
fi
target=$(realpath -m "$1")
packages="swift==2.38.3 moto[s3]==5.2.5 flask flask-cors werkzeug"
stamp=$target/packages.txt

[ "$(cat "$stamp" 2>/dev/null)" != "$packages" ] || exit 0
rm -rf "$target"
mkdir -p "$target"
/usr/bin/python3 -m venv "$target"
# shellcheck disable=SC2086
"$target/bin/pip" install --quiet --disable-pip-version-check $packages
echo "$packages" >"$stamp"
