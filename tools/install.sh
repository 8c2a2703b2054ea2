#!/bin/sh
# install.sh BIN: installs the programs in BIN and all that belongs to them, as a package does:
# below $DESTDIR, with $PREFIX (default /usr) in front of what is not configuration.
set -eu
cd "$(dirname "$0")/../packaging"
bin=$1
root=${DESTDIR:-}${PREFIX:-/usr}

for program in tared tare-spawn tare-names tare-worker tarectl; do
    [ -x "$bin/$program" ] && continue
    echo "install: $bin has no $program: make build" >&2
    exit 1
done
install -D -t "$root/libexec" "$bin/tared" "$bin/tare-spawn" "$bin/tare-names" "$bin/tare-worker"
install -D -t "$root/bin" "$bin/tarectl"
install -Dm644 -t "$root/lib/systemd/system" systemd/*
ln -sf tared.service "$root/lib/systemd/system/dbus-org.tare.Containers1.service"
install -Dm644 -t "$root/share/dbus-1/system.d" dbus/*.conf
install -Dm644 -t "$root/share/dbus-1/system-services" dbus/*.service
install -Dm644 -t "$root/share/dbus-1/interfaces" dbus/*.xml
install -Dm644 -t "$root/share/polkit-1/actions" polkit/*.policy
install -Dm644 sysusers/tare.conf "$root/lib/sysusers.d/tare.conf"
install -Dm644 tmpfiles/tare.conf "$root/lib/tmpfiles.d/tare.conf"
