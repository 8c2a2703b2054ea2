#!/bin/bash
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
trap 'rm -f "$said"' EXIT
# What passes on what is said is there for as long as anything is that says something.
exec 3> >(trap '' INT TERM && exec tee "$said")
tee=$!
# One program that fails is no reason not to run the others. In the background, so that a signal is answered
# while it runs; it hears of a Ctrl-C, and can ask for a password, all the same.
(trap - INT QUIT && exec "${CARGO:-cargo}" test --no-fail-fast "$@") <&0 >&3 3>&- &
cargo=$!
exec 3>&-
# Waits for those that run, which take away what they have made. A Ctrl-C is for all that is at work, but who
# is told to end is told alone.
# What root runs, nobody else may signal.
end() {
    kill "$@" 2>/dev/null || { [ "$(id -u)" != 0 ] && sudo -n kill "$@" 2>/dev/null; } || :
}
interrupted=
trap 'interrupted=130' INT
trap 'interrupted=143; end "$cargo" $(pgrep -P "$cargo")' TERM
status=0
while wait "$cargo" && status=0 || status=$?; kill -0 "$cargo" 2>/dev/null; do :; done
while wait "$tee" || :; kill -0 "$tee" 2>/dev/null; do :; done
[ -z "$interrupted" ] || exit "$interrupted"
# A filter that fits nothing would pass for ever. Each program says in a line of its own how many ran.
if [ "$status" = 0 ] && ! grep -q '^test result: ok\. [1-9]' "$said"; then
    echo "cargo-test: no test ran, and so none has passed: cargo test $*" >&2
    exit 4
fi
exit "$status"
