#!/bin/sh
# tests/lab/lab as root, with the binaries of this build.
set -eu
cd "$(dirname "$0")/.."
bin=$(cd "${CARGO_TARGET_DIR:-target}/debug" && pwd)
root=
[ "$(id -u)" = 0 ] || root=sudo
exec $root env TARE_BIN_DIR="$bin" TERM="${TERM:-dumb}" tests/lab/lab "$@"
