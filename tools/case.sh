#!/bin/sh
# case.sh NAME ARGUMENT...: the tests whose names contain NAME, where their kind belongs.
set -eu
cd "$(dirname "$0")/.."
name=$1
shift

run() {
    case $name in
    vm_selinux*) tools/cargo-test.sh vm-selinux "$@" --test vm -- "$name" ;;
    vm_*) tools/cargo-test.sh vm-apparmor "$@" --test vm -- "$name" --skip vm_selinux_ ;;
    lab_*) tools/cargo-test.sh lab "$@" --test lab -- "$name" ;;
    privileged_*) tools/cargo-test.sh root "$@" --tests -- "$name" ;;
    *) tools/cargo-test.sh here "$@" -- "$name" --skip privileged_ --skip lab_ --skip vm_ ;;
    esac
}

[ -n "$name" ] || {
    echo "case: which? make case NAME=lab_the_main_job" >&2
    exit 2
}
run "$@" && exit
status=$?
# One that does not exist has not passed.
[ "$status" != 4 ] ||
    echo "case: no test is called that; what begins with privileged_, lab_ or vm_ is called so whole" >&2
exit "$status"
