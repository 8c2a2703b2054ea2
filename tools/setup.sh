#!/bin/sh
# Installs the Debian packages that building, tests and the demo need, if any is missing.
# Does nothing, and asks for nothing, when all are there. More packages can be named. Exit code 77: they
# cannot be had here.
set -eu

# To build: a linker and C headers, for SQLite and zstd. Rust itself is yours to install.
# To run: what a host of tared has, and busybox as the content of images.
packages='gcc libc6-dev
conmon crun runc catatonit dbus-daemon
busybox-static iproute2 mount nftables systemd util-linux'

missing() {
    for package in $packages "$@"; do
        status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) || status=
        [ "$status" = installed ] || printf ' %s' "$package"
    done
}

if ! command -v dpkg-query >/dev/null; then
    # shellcheck disable=SC2086 # on one line
    echo "This is not Debian. What is needed, under its names there:" $packages >&2
    exit 0
fi
# One at a time: who comes second may find that all is there, and apt-get does not wait for another.
exec 9<"$0"
flock 9
wanted=$(missing "$@")
[ -n "$wanted" ] || exit 0

echo "Installing:$wanted"
root=
[ "$(id -u)" = 0 ] || root=sudo
install() {
    # shellcheck disable=SC2086 # a list of words
    $root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends $wanted 9>&-
}
# A fresh system has no lists, an old one has stale ones; most have good ones.
install || { $root apt-get update -q 9>&- && install; } || {
    echo "setup: cannot run here: these packages cannot be installed:$wanted" >&2
    exit 77
}
