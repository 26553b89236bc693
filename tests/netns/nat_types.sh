#!/bin/bash
# Are nat.sh's NATs what they are called? Each home is asked by two who know nothing of its rules: our
# prober against our observers, and coturn's RFC 5780 client against coturn's server. Prints a table
# (standard error; with --json the findings) and "ok NAME" or "FAIL NAME" for ./run test.
set -u
. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/nat.sh"

JSON=
[ "${1:-}" = --json ] && JSON=1

# name type mapping filtering hairpin step options...; underscores are spaces
ROWS="short port endpoint address_and_port off 0 lifetime=20
shortsym sym address_and_port address_and_port off 0 lifetime=20
public public endpoint endpoint none 0
full full endpoint endpoint off 0
addr addr endpoint address off 0
port port endpoint address_and_port off 0
linux linux endpoint address_and_port off 0
addrmap addrmap address address_and_port off 0
sym sym address_and_port address_and_port off 0
symseq symseq address_and_port address_and_port off 1
double double endpoint address_and_port off 0
doublesym doublesym address_and_port address_and_port off 0
hairfull full endpoint endpoint on 0 hairpin=on
hairport port endpoint address_and_port on 0 hairpin=on
blocked blocked - - - 0
v6only v6only endpoint address_and_port none 0"

declare -A PROBES FOUND

# In the background. One asker after the other where the next port is counted: what the other opens
# meanwhile takes ports, too. Those with a lifetime only wait, and have no order of ports.
probe_start() {
    local name=$1
    case $name in
    short*)
        ask_ours "$name" --lifetime 17,23 &
        PROBES[$name]=$!
        ask_coturn "$name" &
        ;;
    blocked) ask_ours "$name" & ;;
    *)
        {
            ask_ours "$name"
            ask_coturn "$name"
        } &
        ;;
    esac
    PROBES[$name]+=" $!"
}

ask_ours() {
    local name=$1 address=$NAT_STUN4 other=$NAT_STUN4_OTHER
    shift
    [ "$name" = v6only ] && address=$NAT_STUN6 other=$NAT_STUN6_OTHER
    lab_in "$name" "$LAB_PYTHON" "$NAT_TOOL" probe "$NAT_PORT" "$address" "$other" "$@" >"$LAB_DIR/$name.ours" 2>&1
}

ask_coturn() {
    local address=$NAT_STUN4
    [ "$1" = v6only ] && address=$NAT_STUN6
    lab_in "$1" "$LAB_PYTHON" "$NAT_TOOL" natdiscovery "$address" >"$LAB_DIR/$1.coturn" 2>&1
}

# learn FILE...: their JSON into FOUND["FILE KEY"].
learn() {
    local key value
    while IFS='=' read -r key value; do
        FOUND[$key]=$value
    done < <("$LAB_PYTHON" "$NAT_TOOL" flat "$@")
}

# is FILE KEY EXPECTED
is() {
    [ "${FOUND[$1 $2]:--}" = "$3" ] && return 0
    echo "$1: $2 is ${FOUND[$1 $2]:--}, not $3"
    cat "$LAB_DIR/$1"
    return 1
}

row_holds() {
    local name=$1 type=$2 mapping=${3//_/ } filtering=${4//_/ } hairpin=$5 step=$6
    case $type in
    blocked)
        is "$name.ours" udp false && is "$name.ours" tcp true
        return
        ;;
    public | v6only) is "$name.ours" nat false || return ;;
    *) is "$name.ours" nat true && is "$name.ours" address "${NAT_SEEN_AS[$name]}" || return ;;
    esac
    is "$name.ours" mapping "$mapping" && is "$name.ours" filtering "$filtering" &&
        is "$name.ours" step "$step" &&
        is "$name.coturn" mapping "$mapping" && is "$name.coturn" filtering "$filtering" || return
    case $hairpin in
    none) ;;
    *) is "$name.ours" hairpin "$hairpin" && is "$name.coturn" hairpin "$hairpin" || return ;;
    esac
    case $type in
    linux | public | v6only) is "$name.ours" keeps_port true ;;
    *) is "$name.ours" keeps_port false ;;
    esac
}

lifetime_is_20() {
    is "$1.ours" lifetime.alive_after 17.0 && is "$1.ours" lifetime.dead_after 23.0
}

v6only_has_no_v4() {
    [ -z "$(lab_in v6only ip -4 -o addr show dev eth0)" ]
}

# Two homes of one carrier: one address, and each other's through the carrier's hairpin alone.
shared_starts() {
    local hairpin
    for hairpin in on off; do
        nat_carrier "sh$hairpin-c" port hairpin=$hairpin
        nat_home "sh$hairpin-a" port carrier="sh$hairpin-c"
        nat_home "sh$hairpin-b" port carrier="sh$hairpin-c"
        nat_punch "sh$hairpin-a" "sh$hairpin-b" "$LAB_DIR/sh$hairpin" &
        PROBES[sh$hairpin]=$!
    done
}

shared_holds() {
    is "sh$1.0" direct "$2" && is "sh$1.1" direct "$2" &&
        is "sh$1.0" address "${NAT_WAN[sh$1-c]}" && is "sh$1.1" address "${NAT_WAN[sh$1-c]}" &&
        [ "${FOUND[sh$1.0 port]}" != "${FOUND[sh$1.1 port]}" ]
}

# What the probes left is there, and then it is not.
forgets() {
    [ "$(nat_entries port-r)" -gt 0 ] && [ "$(elements port-r)" -gt 0 ] && nat_forget port-r &&
        [ "$(nat_entries port-r)" = 0 ] && [ "$(elements port-r)" = 0 ]
}

elements() {
    lab_in "$1" nft list map ip nat_lab eim | grep -c expires
}

moves() {
    nat_move linux full-r
    lab_in linux "$LAB_PYTHON" "$NAT_TOOL" probe "$NAT_PORT" "$NAT_STUN4" "$NAT_STUN4_OTHER" >"$LAB_DIR/moved.ours"
    learn "$LAB_DIR/moved.ours"
    [ "${NAT_SEEN_AS[linux]}" = "${NAT_WAN[full-r]}" ] && is moved.ours address "${NAT_WAN[full-r]}"
}

table() {
    local name type rest
    printf '%-10s %-18s %-18s %-18s %-18s %-8s %-8s\n' type "mapping (ours)" "(coturn)" "filtering (ours)" \
        "(coturn)" hairpin "(coturn)"
    while read -r name type rest; do
        printf '%-10s %-18s %-18s %-18s %-18s %-8s %-8s\n' "$name" "${FOUND[$name.ours mapping]:--}" \
            "${FOUND[$name.coturn mapping]:--}" "${FOUND[$name.ours filtering]:--}" \
            "${FOUND[$name.coturn filtering]:--}" "${FOUND[$name.ours hairpin]:--}" "${FOUND[$name.coturn hairpin]:--}"
    done <<<"$ROWS"
}

lab_begin
nat_internet
nat_observers coturn
while read -r name type _ _ _ _ options; do
    # shellcheck disable=SC2086 # words
    nat_home "$name" "$type" $options
    probe_start "$name"
done <<<"$ROWS"
shared_starts
# shellcheck disable=SC2086 # process ids are words
wait ${PROBES[*]}
learn "$LAB_DIR"/*.ours "$LAB_DIR"/*.coturn "$LAB_DIR"/sh*.[01]

table >&2
if [ -n "$JSON" ]; then
    "$LAB_PYTHON" - "$LAB_DIR" <<'PYTHON'
import glob, json, os, sys
print(json.dumps({os.path.basename(f)[:-5]: json.load(open(f)) for f in sorted(glob.glob(sys.argv[1] + "/*.ours"))}))
PYTHON
fi
while read -r name type mapping filtering hairpin step _; do
    lab_check "nat_type_$name" row_holds "$name" "$type" "$mapping" "$filtering" "$hairpin" "$step"
done <<<"$ROWS"
lab_check nat_lifetime_short lifetime_is_20 short
lab_check nat_lifetime_shortsym lifetime_is_20 shortsym
lab_check nat_v6only_has_no_v4 v6only_has_no_v4
lab_check nat_shared_hairpin_on shared_holds on true
lab_check nat_shared_hairpin_off shared_holds off false
lab_check nat_forget_leaves_no_mapping forgets
lab_check nat_move_changes_address moves

exit $((LAB_FAILED > 0))
