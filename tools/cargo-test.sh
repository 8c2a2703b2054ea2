#!/bin/sh
# cargo-test.sh WHERE ARGUMENT...: `cargo test`, compiled by whoever calls it, on this host
# (`here`, `root`), in a lab system (`lab`), or in an emulated machine (`vm-apparmor`, `vm-selinux`).
# Exit code 4: nothing has failed, and nothing was tested.
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
    sed -n 's/^# //; 2,4p' "$0" >&2
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
said=$(mktemp)
trap 'rm -f "$said" "$said.status"' EXIT
# Waits for those that run, which take away what they have made.
trap 'exit 130' INT
# One program that fails is no reason not to run the others.
{
    "${CARGO:-cargo}" test --no-fail-fast "$@" && status=0 || status=$?
    echo "$status" >"$said.status"
} | (trap '' INT && exec tee "$said")
status=$(cat "$said.status")
# A filter that fits nothing would pass for ever. Each program says in a line of its own how many ran.
if [ "$status" = 0 ] && ! grep -q '^test result: ok\. [1-9]' "$said"; then
    echo "cargo-test: no test ran, and so none has passed: cargo test $*" >&2
    exit 4
fi
exit "$status"
