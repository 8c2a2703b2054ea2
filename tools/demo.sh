#!/bin/sh
# One container, from a directory of files to its end, over D-Bus, on a tared and a bus of its own.
# Every call is shown as it is made. Leaves nothing behind, also when it is interrupted.
set -eu
cd "$(dirname "$0")/.."
# What root writes is read by whoever called: their own may be stricter, and sudo keeps it.
umask 022

bin=${TARE_BIN_DIR:-${CARGO_TARGET_DIR:-target}/built}
# The first of several.
bin=$(cd "${bin%%:*}" && pwd)
# What goes between $ and the command where root is needed; nothing as root.
root=
[ "$(id -u)" = 0 ] || root=sudo
PATH=$PATH:/usr/sbin:/sbin

service=org.tare.Containers1
manager=/org/tare/Containers1
work=
address=
# Whether a tared may be there, though its process id is not known yet.
launched=no
# The control group of all its containers, as soon as one is there.
group=

main() {
    # If there is a password to be asked for, then here and not in the middle.
    $root true
    work=$(mktemp -d /tmp/tare.XXXXXX)
    address=unix:path=$work/run/bus/socket
    host_state >"$work/before"
    trap clean_up EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM

    title "A tared with a bus of its own"
    start_tared || fail "tared did not start"
    note "it listens on $(cat "$work/address")"
    get "$manager" Manager Version Features Tainted

    title "An image, from a directory with busybox in it"
    make_rootfs "$work/rootfs.tar"
    tarectl import --reference demo/busybox "$work/rootfs.tar"
    call "$manager" Manager ListImages 'a{sv}' 0

    title "A container"
    call_root "$manager" Manager CreateContainer 'ssa{sv}' web demo/busybox 2 \
        Command as 3 /bin/sh -c "$(payload)" \
        Hostname s web
    call "$manager" Manager GetContainer s web
    web=$(path_in "$reply")
    call_root "$web" Container Start 'ta{sv}' 0 0
    wait_for_job "$(path_in "$reply")"
    get "$web" Container State PID IPAddresses
    running=$reply
    group=$(group_of "$(printf '%s\n' "$running" | sed -n 's|^u \([0-9]*\)$|\1|p')")
    ip=$(printf '%s\n' "$running" | sed -n 's|.*"Address" s "\([0-9.]*\)/.*|\1|p')
    show busybox wget -Y off -q -O - "http://$ip/"
    tarectl exec web ip route
    tarectl exec web cat /etc/resolv.conf

    title "tared is killed; the container does not notice, and the next tared knows it"
    # shellcheck disable=SC2086 # nothing, or a word
    show $root sh -c "kill -KILL $(cat "$work/pid")"
    has_ended || fail "tared does not end"
    start_tared || fail "tared did not start again"
    get "$web" Container State PID IPAddresses
    [ "$reply" = "$running" ] || fail "the container is not what it was"
    show busybox wget -Y off -q -O - "http://$ip/"

    title "Its end"
    call_root "$web" Container Stop tt 5000000 0
    wait_for_job "$(path_in "$reply")"
    get "$web" Container State ExitCode ExitReason
    case $reply in *'i 7'*) ;; *) fail "it did not end with 7" ;; esac
    tarectl logs web
    call "$manager" Manager ListContainers 'a{sv}' 0
    call_root "$web" Container Remove t 0
    wait_for_job "$(path_in "$reply")"
    call "$manager" Manager ListContainers 'a{sv}' 0
}

# What the container runs: serves a page until it is asked to end, and ends with 7.
payload() {
    # shellcheck disable=SC2016 # for the shell in the container
    echo 'echo "hello from $(hostname)"
ip -4 -o addr show eth0
mkdir /srv && echo "a page from $(hostname)" >/srv/index.html
trap "echo bye; exit 7" TERM
httpd -f -h /srv &
wait'
}

# --- talking to tared -------------------------------------------------------------------------

# In a session of its own: Ctrl-C is for this script, which then asks tared to end.
start_tared() {
    rm -f "$work/address" "$work/pid"
    launched=yes
    # shellcheck disable=SC2016 # for the inner shell
    $root setsid --fork sh -c '
        echo $$ >"$2/pid"
        exec "$1/tared" --bus=private --state "$2/state" --runtime "$2/run" \
            </dev/null >"$2/address" 2>>"$2/log"' tared "$bin" "$work"
    echo
    printf '$ %s --bus=private --state %s --runtime %s\n' \
        "${root:+$root }tared" "$work/state" "$work/run"
    # It prints the address of its bus as soon as it can be called.
    is_written "$work/address"
}

is_written() {
    for _ in $(seq 100); do
        [ ! -s "$1" ] || return 0
        sleep 0.1
    done
    return 1
}

# Whether it is there, and not just waiting for its parent to look.
is_running() {
    [ -s "$work/pid" ] || return 1
    grep -q '^State:.[^ZX]' "/proc/$(cat "$work/pid")/status" 2>/dev/null
}

# Waits for its end; jobs at work then get a minute.
has_ended() {
    for _ in $(seq 700); do
        is_running || return 0
        sleep 0.1
    done
    return 1
}

# call PATH INTERFACE METHOD [SIGNATURE ARGUMENT...]: what changes nothing, as who we are.
call() {
    call_as '' "$@"
}

# The same as root: without polkit, root alone may change anything.
call_root() {
    call_as "$root" "$@"
}

call_as() {
    who=$1 path=$2 interface=$service.$3
    shift 3
    # shellcheck disable=SC2086 # nothing, or a word
    show $who busctl --address="$address" -- call "$service" "$path" "$interface" "$@"
}

# get PATH INTERFACE PROPERTY...
get() {
    path=$1 interface=$service.$2
    shift 2
    show busctl --address="$address" get-property "$service" "$path" "$interface" "$@"
}

# For calls that carry a file descriptor, which busctl cannot send.
tarectl() {
    # shellcheck disable=SC2086 # nothing, or a word
    show $root "$bin/tarectl" --address "$address" "$@"
}

# A job is there for a while after its end, so asking for its result misses nothing.
wait_for_job() {
    for _ in $(seq 600); do
        result=$(busctl --address="$address" get-property "$service" "$1" "$service.Job" Result)
        [ "$result" = 's ""' ] || break
        sleep 0.05
    done
    get "$1" Job Result
    [ "$reply" = 's "done"' ] || {
        get "$1" Job ErrorName ErrorMessage
        fail "the job ended with $reply"
    }
}

# The first object path in a reply of busctl.
path_in() {
    printf '%s\n' "$1" | sed -n 's/^o "\(.*\)"$/\1/p'
}

# --- showing what is done ---------------------------------------------------------------------

title() {
    printf '\n== %s\n' "$1"
}

note() {
    printf '%s\n' "$1"
}

fail() {
    printf 'demo: %s\n' "$1" >&2
    exit 1
}

# Shows a command as one could type it, runs it, shows what it says, and keeps that in $reply.
show() {
    printf '\n$'
    for word in "$@"; do
        [ "$word" != "$bin/tarectl" ] || word=tarectl
        printf ' %s' "$(quoted "$word")"
    done
    echo
    reply=$("$@") || fail "that failed"
    [ -z "$reply" ] || printf '%s\n' "$reply"
}

quoted() {
    case $1 in
    '' | *[!A-Za-z0-9_@%+=:,./-]*) printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")" ;;
    *) printf '%s' "$1" ;;
    esac
}

# --- the root file system ---------------------------------------------------------------------

make_rootfs() {
    dir=$work/rootfs
    mkdir -p "$dir/bin" "$dir/etc" "$dir/root"
    mkdir -m 1777 "$dir/tmp"
    cp "$(command -v busybox)" "$dir/bin/busybox"
    for applet in $(busybox --list); do
        [ "$applet" = busybox ] || ln -s busybox "$dir/bin/$applet"
    done
    echo 'root:x:0:0:root:/root:/bin/sh' >"$dir/etc/passwd"
    echo 'root:x:0:' >"$dir/etc/group"
    show tar -C "$dir" --owner=0 --group=0 --numeric-owner -c -f "$1" .
}

# --- leaving nothing behind -------------------------------------------------------------------

clean_up() {
    status=$?
    trap - EXIT
    trap '' HUP INT TERM
    # Whatever fails here, the rest is still done.
    set +e
    title "Cleaning up"
    [ "$status" = 0 ] || tail -n 5 "$work/log" >&2 || :
    if [ "$launched" = yes ]; then
        is_written "$work/pid" || :
        remove_containers
        stop_tared
    fi
    compare || status=1
    $root rm -rf "$work"
    exit "$status"
}

# Also those of a tared that is gone, so one may have to be started for it.
remove_containers() {
    [ -d "$work/state" ] || return 0
    if is_running; then is_written "$work/address"; else start_tared; fi || return 0
    for _ in $(seq 20); do
        ids=$("$bin/tarectl" --address "$address" ps --all | tail -n +2 | cut -d ' ' -f 1)
        [ -n "$ids" ] || return 0
        # It fails while a job of ours is still at work on the container.
        # shellcheck disable=SC2086 # a list of ids
        $root "$bin/tarectl" --address "$address" rm --force $ids || sleep 0.5
    done
}

stop_tared() {
    is_running || return 0
    printf '\n$ %s\n' "${root:+$root }sh -c 'kill $(cat "$work/pid")'"
    # Not every system has the program, but every shell has it built in.
    $root sh -c "kill $(cat "$work/pid")"
    has_ended || echo "demo: tared does not end" >&2
    echo
}

# What the host shows of containers.
host_state() {
    echo "# links" && ip -br link
    echo "# network namespaces" && ip netns
    echo "# firewall" && $root nft --stateless list ruleset
    echo "# mounts" && findmnt --raw --noheadings --output TARGET,SOURCE,FSTYPE | sort
    [ -z "$group" ] || find /sys/fs/cgroup -type d -name "$group"
    echo "# processes" && processes
}

# The first group of ours that a process is in.
group_of() {
    sed -n 's|^0::/||p' "/proc/$1/cgroup" | tr / '\n' | sed -n '/^tare/{p;q}'
}

# Those that work on our directory; the name of everything of a container leads there.
processes() {
    [ -d "$work/state" ] || return 0
    for dir in /proc/[0-9]*; do
        words=$(tr '\0' ' ' 2>/dev/null <"$dir/cmdline") || continue
        case $words in *"$work"/*) echo "${dir#/proc/} $words" ;; esac
    done
}

# The kernel takes a moment to end the last namespace of a container.
compare() {
    for _ in $(seq 20); do
        host_state >"$work/after"
        if difference=$(diff -U 0 "$work/before" "$work/after"); then
            note "nothing left behind: links, namespaces, firewall, mounts, groups, processes"
            return 0
        fi
        sleep 0.5
    done
    printf 'demo: left behind, or changed by others meanwhile:\n%s\n' "$difference" >&2
    return 1
}

main
