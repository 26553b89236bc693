#!/bin/bash
# What is possible between two NATs: a plain UDP puncher (a test tool, no code of the programs) for every
# pair of types, each pair in homes of their own. The truth against which the programs are measured.
#
#     nat_punch.sh [--types a,b,...] [--json] [--predict N] [--birthday] [--seconds S] [--delay MS] [--loss P]
#
# Direct is possible unless one side's mapping depends on the peer's port and the other's filter looks
# at it: nobody then knows the port that would pass. A sequential mapping can be guessed (--predict),
# a random one found by many sockets if the other side's is fixed (--birthday, seldom both).
# Prints seconds to direct from the common instant ("fail": never), "ok" or "FAIL" for each pair.
set -u
. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/nat.sh"

TYPES="public full addr port sym symseq double doublesym"
JSON=
PREDICT=11
BIRTHDAY=
SECONDS_MAX=
DELAY=0
LOSS=0
while [ $# -gt 0 ]; do
    case $1 in
    --types) TYPES=${2//,/ } && shift 2 ;;
    --json) JSON=1 && shift ;;
    --predict) PREDICT=$2 && shift 2 ;;
    --birthday) BIRTHDAY=--birthday && shift ;;
    --seconds) SECONDS_MAX=$2 && shift 2 ;;
    --delay) DELAY=$2 && shift 2 ;;
    --loss) LOSS=${2%\%} && shift 2 ;;
    *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2 && exit 2 ;;
    esac
done
: "${SECONDS_MAX:=$([ -n "$BIRTHDAY" ] && echo 10 || echo 3)}"
if [ "$DELAY" != 0 ] || [ "$LOSS" != 0 ]; then
    NAT_LINK="clear delay=${DELAY}ms loss=$LOSS%"
fi
read -ra LIST <<<"$TYPES"

# hardness TYPE: how little is known of its next port: 0 all, 1 in sequence, 2 nothing
hardness() {
    case $1 in
    addrmap | sym | doublesym) echo 2 ;;
    symseq) [ "$PREDICT" -gt 0 ] && echo 1 || echo 2 ;;
    *) echo 0 ;;
    esac
}

# filters_by_port TYPE
filters_by_port() {
    case $1 in
    public | full | addr) return 1 ;;
    esac
}

# expected TYPE TYPE: yes, no, or any where luck has a part
expected() {
    local hard_a hard_b
    case "$1 $2" in *blocked* | *v6only*) echo no && return ;; esac
    hard_a=$(hardness "$1")
    hard_b=$(hardness "$2")
    if { [ "$hard_a" = 2 ] && filters_by_port "$2"; } || { [ "$hard_b" = 2 ] && filters_by_port "$1"; }; then
        # Many sockets against one port: likely. Otherwise hopeless.
        if [ -n "$BIRTHDAY" ] && { [ "$hard_a" = 0 ] || [ "$hard_b" = 0 ]; }; then
            echo any
        else
            echo no
        fi
    elif [ "$hard_a" = 1 ] && [ "$hard_b" = 1 ]; then
        echo any # each guess of one side moves the other's sequence
    else
        echo yes
    fi
}

for type in "${LIST[@]}"; do
    case " $NAT_TYPES " in *" $type "*) ;; *) lab_die "no type $type; there are: $NAT_TYPES" ;; esac
done
lab_begin
nat_internet
nat_observers
for type in "${LIST[@]}"; do
    nat_home "a-$type" "$type"
    nat_home "b-$type" "$type"
done

# In each round every home takes part in one pair: nobody's ports are used up by another's attempt.
count=${#LIST[@]}
for ((round = 0; round <= count / 2; round++)); do
    pids=
    for ((i = 0; i < count; i++)); do
        j=$(((i + round) % count))
        [ -e "$LAB_DIR/pair.$j.$i.0" ] && continue # met already, the other way round
        nat_punch "a-${LIST[i]}" "b-${LIST[j]}" "$LAB_DIR/pair.$i.$j" --seconds "$SECONDS_MAX" \
            --predict "$PREDICT" $BIRTHDAY &
        pids+=" $!"
    done
    # shellcheck disable=SC2086 # process ids are words
    wait $pids
done

declare -A FOUND
while IFS='=' read -r key value; do
    FOUND[$key]=$value
done < <("$LAB_PYTHON" "$NAT_TOOL" flat "$LAB_DIR"/pair.*)

# cell I J: seconds until the later side knew, or "fail"
cell() {
    local file=pair.$1.$2
    [ -e "$LAB_DIR/$file.0" ] || file=pair.$2.$1
    if [ "${FOUND[$file.0 direct]:-}" = true ] && [ "${FOUND[$file.1 direct]:-}" = true ]; then
        printf '%s\n%s\n' "${FOUND[$file.0 seconds]}" "${FOUND[$file.1 seconds]}" | sort -n | tail -n 1
    else
        echo fail
    fi
}

pair_holds() {
    local found
    found=$(cell "$1" "$2")
    echo "${LIST[$1]} and ${LIST[$2]}: $found, expected to be direct: $3"
    cat "$LAB_DIR/pair.$1.$2".[01] "$LAB_DIR/pair.$2.$1".[01] 2>/dev/null
    case $3 in
    yes) [ "$found" != fail ] ;;
    no) [ "$found" = fail ] ;;
    esac
}

{
    printf '%-10s' ''
    printf '%-10s' "${LIST[@]}"
    echo
    for ((i = 0; i < count; i++)); do
        printf '%-10s' "${LIST[i]}"
        for ((j = 0; j < count; j++)); do
            [ "$j" -lt "$i" ] && printf '%-10s' '' || printf '%-10s' "$(cell "$i" "$j")"
        done
        echo
    done
} >&2
[ -z "$JSON" ] || printf '{"pairs": ['
comma=
for ((i = 0; i < count; i++)); do
    for ((j = i; j < count; j++)); do
        want=$(expected "${LIST[i]}" "${LIST[j]}")
        if [ -n "$JSON" ]; then
            found=$(cell "$i" "$j")
            printf '%s{"a": "%s", "b": "%s", "expected": "%s", "direct": %s, "seconds": %s}' "$comma" "${LIST[i]}" \
                "${LIST[j]}" "$want" "$([ "$found" = fail ] && echo false || echo true)" "$([ "$found" = fail ] && echo null || echo "$found")"
            comma=', '
            pair_holds "$i" "$j" "$want" >/dev/null || LAB_FAILED=$((LAB_FAILED + 1))
        else
            lab_check "nat_punch_${LIST[i]}_${LIST[j]}" pair_holds "$i" "$j" "$want"
        fi
    done
done
[ -z "$JSON" ] || printf ']}\n'

exit $((LAB_FAILED > 0))
