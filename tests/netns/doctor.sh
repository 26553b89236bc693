#!/bin/bash
# meshvpn doctor and meshvpn report on the host of a client: what is broken here is found and named with what mends
# it, which then does; nothing is changed by looking; and a report holds no address, name or key of the lab. Prints
# "ok NAME" or "FAIL NAME".
#
#     doctor.sh            MVPN_BUILD names the build directory
set -u
# shellcheck source=tests/netns/lab.sh
. "$(dirname "$0")/lab.sh"
# shellcheck source=tests/netns/mesh.sh
. "$(dirname "$0")/mesh.sh"

LAB_RELAYS="alder birch maple" LAB_EXITS="maple"
lab_begin
lab_internet
lab_services
mesh_create both
mesh_relays_start
mesh_client_start 3 alder birch maple
mesh_client_wait 20
meshvpn=$MESH_PROGRAMS/meshvpn
conf=$LAB_DIR/client.conf

state() {
    lab_in client ip -o link
    lab_in client ip rule
    lab_in client ip -6 rule
    lab_in client ip route show table all
    lab_in client nft list ruleset
    find "$LAB_DIR/sock" "$conf" -printf '%p %m %u %s\n' | sort
}

# look COMMAND...: doctor's object in $LAB_DIR/doctor.json, in less than 2 s; COMMAND runs it in another world
look() {
    local before from
    before=$(state)
    from=$(date +%s%N)
    lab_in client "$@" "$meshvpn" doctor client "$conf" --json >"$LAB_DIR/doctor.json"
    local code=$?
    echo "$code" >"$LAB_DIR/status"
    [ $((($(date +%s%N) - from) / 1000000)) -lt 2000 ] || echo "it took too long"
    [ "$code" = 0 ] || [ "$code" = 1 ] || echo "exit status $code"
    diff <(echo "$before") <(state)
}

# says NAME MARK TEXT REPAIR
says() {
    "$LAB_PYTHON" - "$LAB_DIR/doctor.json" "$@" <<'END'
import json, sys
path, name, mark, text, repair = sys.argv[1:]
found = json.load(open(path, encoding="utf-8"))
row = [c for c in found["checks"] if c["name"] == name][0]
print(row)
sys.exit(not (row["mark"] == mark and text in row["text"] and (row["repair"] or "") == repair))
END
}

# finds NAME MARK TEXT REPAIR [COMMAND...]
finds() {
    local name=$1 mark=$2 text=$3 repair=$4 out
    shift 4
    out=$(look "$@")
    status=$(cat "$LAB_DIR/status")
    [ -z "$out" ] || {
        echo "$out"
        return 1
    }
    says "$name" "$mark" "$text" "$repair"
}

all_is_well() {
    finds daemon good "runs: connected" "" && [ "$status" = 0 ] && says clock good "" "" && finds leftovers good "" "" && finds vpn good "" "" &&
        ! grep -q '"mark":"broken"' "$LAB_DIR/doctor.json"
}
lab_check "doctor: a connected client's host is well" all_is_well

# --- report ---
canaries() {
    local node
    for node in client web dns $LAB_RELAYS; do
        lab_addr4 "$node"
        lab_addr6 "$node" 2>/dev/null
        [ "$node" = client ] || [ "$node" = web ] || [ "$node" = dns ] || echo "$node"
    done
    echo "$MESH_GATEWAY6"
    hostname
    grep -ohE '[A-Za-z0-9+/]{43}=' "$LAB_DIR/net/network.conf" "$LAB_DIR"/net/nodes/*/*.key "$LAB_DIR"/net/keys/*.key
    "$MESH_PROGRAMS/meshvpn-bootstrap" show "$LAB_DIR/net" | awk '$1 == "identity" { print $2; print substr($2, 1, 8) }'
}

report_is_clean() {
    local canary bad=0
    # What a log may hold beside what this run wrote.
    {
        echo "connection with maple: direct ($(lab_addr4 maple):443)"
        echo "warning: $(lab_addr4 alder) does not answer; [$(lab_addr6 birch)]:4242 does"
    } >>"$LAB_DIR/run/client/client.log"
    lab_in client "$meshvpn" report client "$conf" --yes --output "$LAB_DIR/report.txt" </dev/null >"$LAB_DIR/report.out" || return 1
    cmp "$LAB_DIR/report.out" "$LAB_DIR/report.txt" || return 1
    [ "$(stat -c %a "$LAB_DIR/report.txt")" = 600 ] || return 1
    for part in '== version ==' '== doctor ==' 'meshvpn.doctor/1' 'meshvpn.netcheck/1' 'meshvpn.config/1' \
        'meshvpn.status/1' '"state": "connected"' '== log ==' 'connection with <name' 'warning: <address'; do
        grep -qF -- "$part" "$LAB_DIR/report.txt" || {
            echo "it lacks: $part"
            bad=1
        }
    done
    while read -r canary; do
        if [ -n "$canary" ] && grep -nF -- "$canary" "$LAB_DIR/report.txt"; then
            echo "it holds: $canary"
            bad=1
        fi
    done < <(canaries)
    [ "$(canaries | wc -l)" -gt 20 ] && [ "$bad" = 0 ]
}
lab_check "report: no address, name or key of the lab" report_is_clean

report_asks() {
    rm -f "$LAB_DIR/report.txt"
    lab_in client "$meshvpn" report client "$conf" --output "$LAB_DIR/report.txt" </dev/null >"$LAB_DIR/report.out" 2>"$LAB_DIR/said" &&
        [ ! -e "$LAB_DIR/report.txt" ] && [ -s "$LAB_DIR/report.out" ] && grep -q -- --yes "$LAB_DIR/said"
}
lab_check "report: without a terminal and --yes it is only printed" report_asks

# --- others on the host ---
other_vpn() {
    lab_in client ip tuntap add wgcorp mode tun && lab_in client ip link set wgcorp up &&
        lab_in client ip route add default dev wgcorp table 51820 && lab_in client ip rule add pref 100 table 51820 || return 1
    finds vpn broken "wgcorp, by the policy rule of priority 100" "sudo ip link set wgcorp down" && [ "$status" = 1 ] || return 1
    lab_in client ip link set wgcorp down
    finds vpn unsure "priority 100, table 51820" "ip rule show" || return 1
    lab_in client ip rule del pref 100
    lab_in client ip link del wgcorp
    finds vpn good "" ""
}
lab_check "doctor: another VPN is named" other_vpn

other_firewall() {
    local found=1
    lab_in client nft 'add table inet corp; add chain inet corp out { type filter hook output priority 10; policy drop; }
        add rule inet corp out accept'
    finds firewall unsure "chain out of table corp drops" "sudo nft list ruleset" && found=0
    lab_in client nft delete table inet corp
    return "$found"
}
lab_check "doctor: a table of another program is named" other_firewall

# setting NAME VALUE: of reverse path filters, "all/rp_filter" ..
setting() {
    lab_in client sh -c 'echo "$2" >"/proc/sys/net/ipv4/conf/$1"' - "$1" "$2"
}

strict() {
    local found=1 tries=100
    setting all/rp_filter 1
    until [ "$(lab_in client cat /proc/sys/net/ipv4/conf/eth0/src_valid_mark)" = 1 ] || [ "$tries" = 0 ]; do
        tries=$((tries - 1))
        sleep 0.05
    done
    finds answers good "" "" && setting eth0/src_valid_mark 0 &&
        finds answers broken "dropped at eth0" "sudo sysctl net.ipv4.conf.all.rp_filter=2" && [ "$status" = 1 ] &&
        lab_in client sysctl -q net.ipv4.conf.all.rp_filter=2 && finds answers good "" "" && found=0
    setting all/rp_filter 0
    return "$found"
}
lab_check "doctor: strict reverse path filtering that drops answers" strict

cat >"$LAB_DIR/resolv.conf" <<<"nameserver $MESH_GATEWAY6"
mkdir "$LAB_DIR/empty"
without_rights() {
    chmod 711 "$LAB_DIR"
    finds firewall unsure "root alone" "sudo meshvpn doctor" setpriv --reuid=12345 --regid=12345 --clear-groups &&
        says rights unsure "" "sudo meshvpn doctor"
}
lab_check "doctor: without root it says what it cannot see" without_rights
# shellcheck disable=SC2016 # expands inside
lab_check "doctor: no TUN device" finds tun broken "/dev/net/tun is missing" "sudo modprobe tun" \
    unshare -m sh -c 'mount --bind "$0" /dev/net && exec "$@"' "$LAB_DIR/empty"
# shellcheck disable=SC2016
lab_check "doctor: no CAP_NET_ADMIN" finds rights broken "without CAP_NET_ADMIN" "meshvpn proxy" \
    setpriv --inh-caps=-net_admin --bounding-set=-net_admin
# shellcheck disable=SC2016
lab_check "doctor: a full disk" finds disk broken "KiB left" "df -h $LAB_DIR/run/client" \
    unshare -m sh -c 'mount -t tmpfs -o size=1m none "$0" && exec "$@"' "$LAB_DIR/run/client"
# shellcheck disable=SC2016
lab_check "doctor: a state directory that cannot be written" finds state broken "cannot be written" "sudo chown -R meshvpn: $LAB_DIR/run/client" \
    unshare -m sh -c 'mount -t tmpfs -o ro none "$0" && exec "$@"' "$LAB_DIR/run/client"

mistake() {
    local found=1
    cp "$conf" "$LAB_DIR/conf.kept"
    echo "hopps = 3" >>"$conf"
    finds configuration broken "Did you mean 'hops'?" "sudoedit $conf" && [ "$status" = 1 ] && found=0
    cp "$LAB_DIR/conf.kept" "$conf"
    return "$found"
}
lab_check "doctor: a mistake in the configuration" mistake

# --- after a crash ---
mesh_client_stop KILL
crashed() {
    finds leftovers broken "one that fell has left the kill switch" "sudo meshvpn-client --cleanup" && [ "$status" = 1 ] &&
        says daemon unsure "does not run" "sudo meshvpn up" || return 1
    lab_in client "$MESH_PROGRAMS/meshvpn-client" --cleanup --config "$conf" || return 1
    finds leftovers good "nothing is left over" ""
}
lab_check "doctor: leftovers of a client that fell, and their repair" crashed
# shellcheck disable=SC2016
lab_check "doctor: its name server is left over" finds resolver broken "left its own name server" "sudo meshvpn-client --cleanup" \
    unshare -m sh -c 'mount --bind "$0" "$(readlink -f /etc/resolv.conf)" && exec "$@"' "$LAB_DIR/resolv.conf"

taken() {
    local found=1
    lab_spawn client taker "$LAB_PYTHON" -c 'import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 4747)); time.sleep(60)'
    lab_wait_port client udp 4747
    sed -i '/^listen/d' "$conf"
    echo 'listen = {"0.0.0.0:4747"}' >>"$conf"
    finds ports broken "UDP port 4747" "sudo ss -ulpn sport = :4747" && found=0
    lab_stop "$LAB_PID"
    return "$found"
}
lab_check "doctor: a port of ours in another's hands" taken
