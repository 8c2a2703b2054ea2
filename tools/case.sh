#!/bin/sh
# case.sh NAME ARGUMENT...: the tests whose names contain NAME, where their kind belongs.
set -eu
cd "$(dirname "$0")/.."
name=$1
shift

case $name in
'') echo "case: which? make case NAME=lab_the_main_job" >&2 && exit 2 ;;
vm_selinux*) exec tools/cargo-test.sh vm-selinux "$@" --test vm -- "$name" ;;
vm_*) exec tools/cargo-test.sh vm-apparmor "$@" --test vm -- "$name" --skip vm_selinux_ ;;
lab_*) exec tools/cargo-test.sh lab "$@" --test lab -- "$name" ;;
privileged_*) exec tools/cargo-test.sh root "$@" --tests -- "$name" ;;
*) exec tools/cargo-test.sh here "$@" -- "$name" --skip privileged_ --skip lab_ --skip vm_ ;;
esac
