#!/bin/bash
# check.sh STAGE... [-- 'STAGE...'...]: makes each of these targets, whatever became of the others, and
# counts the tests they ran. What follows `--` are lanes: their first stages begin at once, beside each
# other, since what waits for most of its time leaves the processors to another.
# What cannot run on this host fails like anything else, but for the stages named in $ACCEPT: those that
# their target `ready-STAGE` says cannot be done here are left out, and told. Where it says that they
# can, they decide like all others.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
logs=$(mktemp -d)
mkdir "$logs/results"
# Who keeps root's door open, if that has to be done.
keeper=
trap 'rm -rf "$logs"; [ -z "$keeper" ] || kill "$keeper" 2>/dev/null' EXIT

# What passes on what is said is there for as long as anything is: who is interrupted still has to take
# away what it made, and is waited for.
make_it() {
    "${MAKE:-make}" --no-print-directory "$1" 2>&1 | (trap '' INT && exec tee "$logs/$1")
}

# Whether a stage may be left out, and is to be. What it then says is why.
left_out() {
    [[ " ${ACCEPT:-} " == *" $1 "* ]] && ! make_it "ready-$1" &&
        grep -q 'cannot run here: ' "$logs/ready-$1"
}

run() {
    local stage=$1 result begun=$SECONDS
    printf '== %s\n' "$stage"
    if left_out "$stage"; then
        result="not run, which was accepted"
    elif make_it "$stage"; then
        result=ok
    else
        result=FAILED
    fi
    printf '%s' "$result" >"$logs/results/$stage"
    printf '== %s: %s, %s s\n\n' "$stage" "$result" $((SECONDS - begun))
}

# The stages of a lane, each line of which says where it is from.
lane() {
    local stage
    trap 'exit 130' INT
    for stage in $1; do
        (trap 'exit 130' INT && run "$stage" 2>&1) | (trap '' INT && exec sed -u "s/^/$stage: /")
    done
}

# Lanes have no terminal to ask for a password at: that is done before, and kept until the end.
keep_root() {
    [ "$(id -u)" != 0 ] || return 0
    sudo true || exit
    { while sudo -n true && sleep 60; do :; done & } >/dev/null 2>&1
    keeper=$!
}

# Interrupts the process groups of these lanes, also what root runs in them, which nobody else may signal.
interrupt() {
    kill -INT "$@" 2>/dev/null
    [ "$(id -u)" = 0 ] || sudo -n kill -INT -- "$@" 2>/dev/null
}

# All lanes at once. Each is a process group of its own, or it would not hear of a Ctrl-C.
beside() {
    local each lanes=()
    keep_root
    set -m
    for each in "$@"; do
        lane "$each" </dev/null &
        lanes+=($!)
    done
    # shellcheck disable=SC2064 # those of now
    trap "interrupt ${lanes[*]/#/-}; wait ${lanes[*]}; exit 130" INT TERM
    wait "${lanes[@]}"
    trap - INT TERM
    set +m
}

# The stages with that result.
those() {
    grep -lx "$1" "$logs"/results/* | while read -r file; do basename "$file"; done
}

# How many tests did that: each test program says it in a line of its own.
count() {
    find "$logs" -maxdepth 1 -type f -exec cat {} + | awk -v word="$1;" \
        '/^test result:/ { for (i = 2; i <= NF; i++) if ($i == word) n += $(i - 1) } END { print n + 0 }'
}

# The tests that failed, and how: here, whoever reads only the end sees them.
failures() {
    sed -n 's/^test \(.*\) \.\.\. FAILED$/  \1/p' "$logs/$1"
    awk '/^(note:|stack backtrace:)|^$/ { shown = 0 }
        / panicked at / { shown = 12 }
        shown > 0 { shown--; printf "    %s\n", substr($0, 1, 400) }' "$logs/$1"
}

trap 'exit 130' INT
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    run "$1"
    shift
done
[ $# -lt 2 ] || { shift && beside "$@"; }

all=$(find "$logs/results" -type f | wc -l)
failed=$(those FAILED)
for stage in $(those "not run, which was accepted"); do
    printf 'cannot run here, which was accepted: %s: %s\n' \
        "$stage" "$(sed -n 's/.*cannot run here: //p' "$logs/ready-$stage" | tail -n 1)"
done
for stage in $failed; do
    printf 'failed: %s\n' "$stage"
    failures "$stage"
done
printf 'all of it took %s min %s s\n' $((SECONDS / 60)) $((SECONDS % 60))
printf '%s tests passed, %s failed; %s of %s stages failed\n' \
    "$(count passed)" "$(count failed)" "$(wc -w <<<"$failed")" "$all"
[ -z "$failed" ]
