#!/bin/bash
# Whatever keeps meshvpn up from connecting ends in a message that names the cause and what mends it, and in an exit
# status of its own: a table of failures, each made to happen with the real programs, at a place of the lab of its own,
# all at once. Afterwards meshvpn down leaves each place as it was. Prints "ok NAME" or "FAIL NAME".
#
#     failures.sh            MVPN_BUILD names the build directory
set -u
# shellcheck source=tests/netns/lab.sh
. "$(dirname "$0")/lab.sh"
# shellcheck source=tests/netns/mesh.sh
. "$(dirname "$0")/mesh.sh"
# shellcheck source=tests/netns/up_lab.sh
. "$(dirname "$0")/up_lab.sh"

up_lab_begin_network() {
    mesh_need_programs
    # shellcheck disable=SC2034 # for lab.sh
    LAB_EXITS="cedar maple oak"
    lab_begin
    lab_internet
    lab_services
    mesh_create found
    # An exit whose resolver is not there.
    mesh_set "$(mesh_conf oak)" dns_upstream '{"11.201.158.54:53"}'
    # One that has used up what it gives in a month: it takes nobody any more.
    mesh_set "$(mesh_conf cedar)" monthly_quota 1
    printf 'meshvpn-quota 1\n%s 1000000000\n' "$(date -u +%Y%m)" >"$LAB_DIR/run/cedar/quota"
    mesh_relays_start
    chmod 755 "$LAB_DIR"
}

ROWS=()

# row NAME STATUS CAUSE REMEDY [LINE...]: what meshvpn up is to end with, and further lines of configuration
row() {
    local name=$1 dir=$LAB_DIR/rows/$1 index=$((150 + ${#ROWS[@]}))
    mkdir -p "$dir/state" "$dir/host"
    printf '%s\n' "$2" >"$dir/status"
    printf '%s\n' "$3" >"$dir/cause"
    printf '%s\n' "$4" >"$dir/remedy"
    shift 4
    {
        echo "network_file = \"$LAB_DIR/net/network.conf\""
        echo "control_socket = \"$dir/control\""
        echo "run_dir = \"$dir/host\""
        echo "state_dir = \"$dir/state\""
        echo "dns = none" # namespaces share the machine's /etc
        printf '%s\n' "$@"
    } >"$dir/client.conf"
    lab_node "$name"
    lab_wire "$name" "11.$index.9.9" "2a10:$index::9"
    ROWS+=("$name")
}

# drop NAME [ADDRESS...]: on the way from this place; all of UDP, or these addresses
drop() {
    local name=$1 address
    shift
    lab_in inet nft "add table inet of_$name; add chain inet of_$name forward { type filter hook forward priority 0; }"
    [ $# -gt 0 ] || lab_in inet nft "add rule inet of_$name forward iifname \"$name\" meta l4proto udp drop"
    for address in "$@"; do
        case $address in
        *:*) lab_in inet nft "add rule inet of_$name forward iifname \"$name\" ip6 daddr $address drop" ;;
        *) lab_in inet nft "add rule inet of_$name forward iifname \"$name\" ip daddr $address drop" ;;
        esac
    done
}

place() {
    lab_in "$1" ip link
    lab_in "$1" ip rule
    lab_in "$1" ip -6 rule
    lab_in "$1" ip route show table all
    lab_in "$1" nft list ruleset
}

# try NAME [COMMAND...]: in a subshell; COMMAND runs meshvpn (env, setpriv ..)
try() {
    local name=$1 dir=$LAB_DIR/rows/$1 got before
    shift
    before=$(place "$name")
    # shellcheck disable=SC2046 # options are words
    lab_in "$name" "$@" timeout 60 "$MESH_PROGRAMS/meshvpn" up --timeout 40 --config "$dir/client.conf" \
        $(cat "$dir/options" 2>/dev/null) </dev/null >"$dir/out" 2>&1
    got=$?
    {
        echo "after $SECONDS s"
        cat "$dir/out"
        echo "exit status $got, wanted $(cat "$dir/status"); cause: $(cat "$dir/cause"); remedy: $(cat "$dir/remedy")"
    } >"$dir/said"
    [ "$name" = broken ] || lab_in "$name" "$MESH_PROGRAMS/meshvpn" down --config "$dir/client.conf" </dev/null >"$dir/down" 2>&1 ||
        { cat "$dir/down"; echo "down failed"; } >>"$dir/said"
    [ "$got" = "$(cat "$dir/status")" ] && grep -qE -- "$(cat "$dir/cause")" "$dir/out" &&
        grep -qE -- "$(cat "$dir/remedy")" "$dir/out" && ! grep -q 'down failed' "$dir/said" &&
        diff <(echo "$before") <(place "$name") >>"$dir/said" && : >"$dir/ok"
}

up_lab_begin_network
relays=
for node in $LAB_RELAYS; do
    relays="$relays $(lab_addr4 "$node") $(lab_addr6 "$node")"
done
old=$LAB_DIR/old # a network whose relays are all listed; nobody runs there
"$MESH_PROGRAMS/meshvpn-bootstrap" init "$old" >/dev/null &&
    "$MESH_PROGRAMS/meshvpn-bootstrap" add-node "$old" ash --address 11.1.0.1:443 --listed >/dev/null &&
    "$MESH_PROGRAMS/meshvpn-bootstrap" add-node "$old" yew --address 11.2.0.1:443 --listed >/dev/null &&
    "$MESH_PROGRAMS/meshvpn-bootstrap" add-node "$old" fir --address 11.3.0.1:443 --exit --listed >/dev/null || exit 1

row noroute 4 'has no network' 'ip route'
row udp 6 'nothing comes back over UDP' 'netcheck'
row guards 7 "none of this client's guards answers" 'reconnect'
row clock 8 'clock is wrong: it says 20[0-9-]+, and' 'timedatectl'
row notun 9 '/dev/net/tun is missing' 'modprobe tun'
row norights 10 'you may not set up the network' 'sudo meshvpn up'
row strict 15 'drops the answers of guards' 'rp_filter=2'
row vpn 11 'another VPN takes our packets.*wg0' 'End that VPN.* the mark 0x1234 alone' 'mark = 0x1234'
row broken 2 'client.conf:6: unknown key .hopps.. Did you mean .hops' 'config check' 'hopps = 3'
row nopath 5 'no path can be chosen: .*country' 'exit_country' 'exit_country = AQ'
row noport 5 'no path can be chosen: .*port' 'exit_country' 'exit_ports = {25}'
row names 13 '(does not answer questions for names|cannot resolve names)' 'circuit new'
row session 12 'no exit opens a session' 'exit list, meshvpn exit use'
row proof 14 'the test of the protection failed' 'meshvpn status'
echo '--exit oak' >"$LAB_DIR/rows/names/options"
echo '--exit maple' >"$LAB_DIR/rows/proof/options"
echo '--exit cedar' >"$LAB_DIR/rows/session/options"

lab_in noroute ip route del default
lab_in noroute ip -6 route del default
drop udp
# shellcheck disable=SC2086 # addresses are words
drop guards $relays
mesh_set "$LAB_DIR/rows/clock/client.conf" network_file "\"$old/network.conf\""
lab_in strict sh -c 'echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter'
lab_in vpn ip tuntap add wg0 mode tun
lab_in vpn ip link set wg0 up
for family in -4 -6; do
    lab_in vpn ip "$family" route add default dev wg0 table 51820
    lab_in vpn ip "$family" rule add not fwmark 51820 table 51820 priority 32764
done
# Somebody's firewall: names are asked and answered inside the circuit, not for this host's programs.
lab_in proof nft 'add table inet own; add chain inet own output { type filter hook output priority 0; }
    add rule inet own output meta l4proto { tcp, udp } th dport 53 drop'
chmod 755 "$LAB_DIR/rows"

for name in "${ROWS[@]}"; do
    case $name in
    clock) try "$name" env LD_PRELOAD="$LAB_BUILD/tests/netns/clock_shift.so" CLOCK_SHIFT_S=631152000 ;;
    notun) try "$name" unshare -m --propagation unchanged sh -c \
        'mount --make-rprivate /dev && mount -t tmpfs none /dev/net && exec "$@"' sh ;;
    strict) try "$name" env LD_PRELOAD="$LAB_BUILD/tests/netns/no_socket_match.so" ;;
    norights) try "$name" setpriv --reuid=65534 --regid=65534 --clear-groups ;;
    *) try "$name" ;;
    esac &
    LAB_TRIES="${LAB_TRIES:-} $!"
done
# shellcheck disable=SC2086 # process ids are words
wait $LAB_TRIES

said() {
    cat "$LAB_DIR/rows/$1/said"; grep after "$LAB_DIR/rows/$1/said" | sed "s|^|$1 |" >&2
    [ -e "$LAB_DIR/rows/$1/ok" ]
}
for name in "${ROWS[@]}"; do
    lab_check "up_$name" said "$name"
done

link=$("$MESH_PROGRAMS/meshvpn-bootstrap" invite "$LAB_DIR/net" --days 1 --no-qr 2>/dev/null)
join_expired() {
    env LD_PRELOAD="$LAB_BUILD/tests/netns/clock_shift.so" CLOCK_SHIFT_S=90000 \
        "$MESH_PROGRAMS/meshvpn" join "$link" --config-dir "$LAB_DIR/join" >"$LAB_DIR/out" 2>&1
    [ $? = 3 ] && grep -qE 'expired on [0-9-]+ .* UTC. Ask for a new one' "$LAB_DIR/out"
}
lab_check join_expired join_expired
exit "$LAB_FAILED"
