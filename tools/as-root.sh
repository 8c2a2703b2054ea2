#!/bin/sh
# as-root.sh COMMAND...: runs a cargo command that compiles as whoever calls it, and starts what it
# has compiled as root.
set -eu

if [ "$(id -u)" != 0 ]; then
    # How cargo is told to start programs it has built for this machine.
    host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${host}_RUNNER=sudo -E"
fi
exec "$@"
