#!/bin/sh
# cargo-test.sh WHERE ARGUMENT...: `cargo test`, compiled by whoever calls it, on this host
# (`here`, `root`), in a lab system (`lab`), or in an emulated machine (`vm-apparmor`, `vm-selinux`).
set -eu
cd "$(dirname "$0")/.."
where=$1
shift

lab=$PWD/tests/lab
case $where in
here) runner= ;;
root) runner="env" ;;
lab) runner="$lab/lab run" ;;
vm-*) runner="$lab/vm ${where#vm-}" ;;
*)
    sed -n 's/^# //; 2,3p' "$0" >&2
    exit 2
    ;;
esac
if [ -n "$runner" ]; then
    [ "$(id -u)" = 0 ] || runner="sudo -E $runner"
    # First what `make build` keeps apart, which is what is shipped; then what Cargo makes for tests.
    target=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)
    export "TARE_BIN_DIR=$target/built:$target/debug"
    # How cargo is told to start programs it has built for this machine.
    host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${host}_RUNNER=$runner"
fi
# One program that fails is no reason not to run the others.
exec "${CARGO:-cargo}" test --no-fail-fast "$@"
