#!/bin/bash
# check.sh STAGE...: makes each of these targets, whatever became of the others, and counts the tests
# they ran. What cannot run on this host fails like anything else, but for the stages named in $ACCEPT.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
trap 'exit 130' INT
failed=() accepted=()

for stage in "$@"; do
    printf '== %s\n' "$stage"
    begun=$SECONDS
    if "${MAKE:-make}" --no-print-directory "$stage" 2>&1 | tee "$logs/$stage"; then
        result=ok
    elif [[ " ${ACCEPT:-} " == *" $stage "* ]] && grep -q 'cannot run here: ' "$logs/$stage"; then
        result="not run, which was accepted"
        accepted+=("$stage")
    else
        result=FAILED
        failed+=("$stage")
    fi
    printf '== %s: %s, %s s\n\n' "$stage" "$result" $((SECONDS - begun))
done

# How many tests did that: each test program says it in a line of its own.
count() {
    cat "$logs"/* | awk -v word="$1;" \
        '/^test result:/ { for (i = 2; i <= NF; i++) if ($i == word) n += $(i - 1) } END { print n + 0 }'
}
[ ${#accepted[@]} = 0 ] || printf 'cannot run here, which was accepted: %s\n' "${accepted[*]}"
[ ${#failed[@]} = 0 ] || printf 'failed: %s\n' "${failed[*]}"
printf '%s tests passed, %s failed; %s of %s stages failed\n' \
    "$(count passed)" "$(count failed)" ${#failed[@]} $#
[ ${#failed[@]} = 0 ]
