# shellcheck shell=bash
# The lab of the leak tests (leak.sh here and in tests/soak): a client whose local network holds an attacker, other
# users of its host who send all the time, and a look at the wire. Sourced after lab.sh and mesh.sh.
#
#     leak_lab_begin; leak_client_start CONFIGURATION-LINES; leak_begin RATE; events ...; leak_end; leak_count

LEAK_TOOL=$LAB_HERE/leak_tool.py
LEAK_GUARD=alder
# Of the attacker, and not among what the probes aim at.
LEAK_FORGER4=11.233.140.99
LEAK_FORGER6=2a10:e9c7::99
LEAK_TABLE=meshvpn_guard
LEAK_ROUTES=19798 # the client's routing table
# Who sends: nobody of the two is root.
LEAK_USERS=(12345 23456)
# shellcheck disable=SC2034 # for leak.sh
LEAK_USER=(setpriv --reuid=12345 --regid=12345 --clear-groups)

leak_lab_begin() {
    # shellcheck disable=SC2034 # for lab.sh
    LAB_RELAYS="alder birch maple" LAB_EXITS="maple"
    lab_begin
    lab_internet
    lab_neighbour fig
    lab_in fig ip addr add "$LEAK_FORGER4/16" dev eth0
    lab_in fig ip -6 addr add "$LEAK_FORGER6/32" dev eth0 nodad
    # A router that lies passes on what it gets, having read it.
    lab_in fig sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv4/conf/all/send_redirects
        echo 0 >/proc/sys/net/ipv4/conf/eth0/send_redirects'
    lab_services
    # Echo for everybody, as systems with systemd have it.
    lab_in client sh -c 'echo "0 2147483647" >/proc/sys/net/ipv4/ping_group_range'
    mesh_create listed
    mesh_relays_start
}

# leak_state: all that a client may change in its host
leak_state() {
    lab_in client ip -o link
    lab_in client ip rule
    lab_in client ip -6 rule
    lab_in client ip route show table all
    lab_in client ip -6 route show table all
    lab_in client nft list ruleset
    lab_in client sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv4.conf.all.rp_filter
}

leak_client_start() {
    MESH_CLIENT_MORE=$1 mesh_client_start 3 "$LEAK_GUARD" birch maple
}

# leak_wait_ready LOG: until the tool of this log says so
leak_wait_ready() {
    local tries=200
    until grep -q ready "$LAB_DIR/log/$1.log" 2>/dev/null; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || lab_die "$1: $(cat "$LAB_DIR/log/$1.log")"
        sleep 0.05
    done
}

# leak_begin RATE [probe-routed]: other users begin to send, and somebody looks at the wire
leak_begin() {
    local uid four six
    four=$(lab_addr4 client | cut -d. -f1-2)
    six=$(lab_addr6 client | cut -d: -f1-2)
    # Next hops are the router, and who says by DHCP or by his netmask that he is one, or that guards are neighbours.
    lab_spawn inet watch "$LAB_PYTHON" "$LEAK_TOOL" watch client "$(lab_addr4 $LEAK_GUARD)" "$(lab_addr6 $LEAK_GUARD)" \
        --next "$four.0.1" "$six::1" "$(lab_addr4 fig)" "$(lab_addr6 fig)" "$(lab_addr4 $LEAK_GUARD)"
    LEAK_WATCH=$LAB_PID
    leak_wait_ready watch
    LEAK_PROBES=
    for uid in "${LEAK_USERS[@]}"; do
        lab_spawn client "probe-$uid" setpriv --reuid="$uid" --regid="$uid" --clear-groups "$LAB_PYTHON" "$LEAK_TOOL" \
            "${2:-probe}" $(($1 / ${#LEAK_USERS[@]})) \
            "$(lab_addr4 web)" "$(lab_addr6 web)" "$(lab_addr4 $LEAK_GUARD)" "$(lab_addr6 $LEAK_GUARD)" \
            "$(lab_addr4 fig)" "$(lab_addr6 fig)" "$four.140.77" "$six::77" 192.168.7.7
        LEAK_PROBES="$LEAK_PROBES $LAB_PID"
    done
}

# leak_end: leaves what was seen in $LAB_DIR/leak.json and what was sent in $LAB_DIR/probes.json
leak_end() {
    local probe
    for probe in $LEAK_PROBES; do
        lab_stop "$probe"
    done
    sleep 0.3
    lab_stop "$LEAK_WATCH"
    cat "$LAB_DIR"/log/probe-*.log | "$LAB_PYTHON" "$LEAK_TOOL" add >"$LAB_DIR/probes.json"
    sed 's/^ready//' "$LAB_DIR/log/watch.log" | grep '^{' | tail -n 1 >"$LAB_DIR/leak.json"
    : >"$LAB_DIR/log/watch.log"
    rm -f "$LAB_DIR"/log/probe-*.log
}

# leak_none: nothing but ours and what a host needs was seen, and nothing was missed
leak_none() {
    cat "$LAB_DIR/leak.json" "$LAB_DIR/probes.json"
    [ "$(mesh_get frames.leak <"$LAB_DIR/leak.json")" = 0 ] && [ "$(mesh_get lost <"$LAB_DIR/leak.json")" = 0 ] &&
        [ "$(mesh_get probes <"$LAB_DIR/probes.json")" -gt "${1:-100}" ]
}

leak_has_table() {
    lab_in client nft list table inet "$LEAK_TABLE"
}

leak_crash() { # worker and helper at once: nobody cleans up
    mesh_node_crash client
}

# leak_until_ms COMMAND...: prints ms until it succeeds
leak_until_ms() {
    local from now
    from=$(date +%s%N)
    until "$@" >/dev/null 2>&1; do
        now=$(date +%s%N)
        [ $(((now - from) / 1000000)) -lt 5000 ] || {
            echo 5000
            return 1
        }
    done
    now=$(date +%s%N)
    echo $(((now - from) / 1000000))
}

# leak_flush: another program clears all tables; prints ms until ours is back
leak_flush() {
    lab_in client nft flush ruleset
    leak_until_ms leak_has_table
}

# What leads into the tunnel, without what the kernel counts (leases).
leak_routing() {
    lab_in client ip -o addr show dev "$MESH_TUN" scope global
    # Rules of one priority may come back in another order.
    lab_in client ip rule | sort
    lab_in client ip -6 rule | sort
    lab_in client ip route show table "$LEAK_ROUTES"
    lab_in client ip -6 route show table "$LEAK_ROUTES"
}

leak_is_routed() {
    [ "$(leak_routing)" = "$LEAK_ROUTED" ]
}

# leak_marks add|del: another program marks what a user sends, in place of our mark, and a rule of its own leads that to
# the main table: after our chain was asked, which has seen the tunnel as its way. And it masquerades there, as hosts of
# containers do.
leak_marks() {
    if [ "$1" = add ]; then
        lab_in client nft -f - <<NFT
table inet marker {
    chain out {
        type route hook output priority mangle + 1
        meta skuid ${LEAK_USERS[0]} meta mark set 0x77
    }
    chain post {
        type nat hook postrouting priority srcnat
        oifname eth0 masquerade
    }
}
NFT
    else
        lab_in client nft delete table inet marker
    fi
    lab_in client ip rule "$1" fwmark 0x77 lookup main priority 100
    lab_in client ip -6 rule "$1" fwmark 0x77 lookup main priority 100
}

# leak_take_routes KIND: another program tidies up; prints ms until all is back. The rules of the main tables are its own
# business.
leak_take_routes() {
    local family
    LEAK_ROUTED=$(leak_routing)
    case $1 in
    rules)
        for family in -4 -6; do
            lab_in client ip "$family" rule flush
            lab_in client ip "$family" rule add priority 32766 lookup main
            [ "$family" = -6 ] || lab_in client ip "$family" rule add priority 32767 lookup default
        done
        ;;
    table)
        lab_in client ip route flush table "$LEAK_ROUTES"
        lab_in client ip -6 route flush table "$LEAK_ROUTES"
        ;;
    replace)
        lab_in client ip route replace default via "$(lab_addr4 fig)" dev eth0 table "$LEAK_ROUTES"
        ;;
    addresses) lab_in client ip addr flush dev "$MESH_TUN" scope global ;;
    device)
        lab_in client ip link set "$MESH_TUN" down
        ;;
    esac
    leak_until_ms leak_is_routed || {
        diff <(echo "$LEAK_ROUTED") <(leak_routing) >&2
        return 1
    }
}

# leak_answers NAME: how many answers the watch of that name saw
leak_answers() {
    sed 's/^ready//' "$LAB_DIR/log/$1.log" | grep '^{' | tail -n 1
}

# leak_forge COUNT: so many forged packets towards the tunnel's addresses, from the local network; nothing answers, in
# the tunnel or outside
leak_forge() {
    local mac pids=()
    mac=$(lab_in client cat /sys/class/net/eth0/address)
    lab_spawn fig answers-lan "$LAB_PYTHON" "$LEAK_TOOL" answers eth0 "$LEAK_FORGER4" "$LEAK_FORGER6"
    pids+=("$LAB_PID")
    lab_spawn client answers-tun "$LAB_PYTHON" "$LEAK_TOOL" answers "$MESH_TUN" "$LEAK_FORGER4" "$LEAK_FORGER6"
    pids+=("$LAB_PID")
    leak_wait_ready answers-lan
    leak_wait_ready answers-tun
    lab_in fig "$LAB_PYTHON" "$LEAK_TOOL" spoof eth0 "$mac" "$1" "$LEAK_FORGER4" "$LEAK_FORGER6" 10.8.0.2 \
        fd6d:7670:6e00::2 || return 1
    sleep 0.3
    lab_stop "${pids[0]}"
    lab_stop "${pids[1]}"
    echo "LAN: $(leak_answers answers-lan); tunnel: $(leak_answers answers-tun)"
    [ "$(leak_answers answers-lan | mesh_get answers)" = 0 ] && [ "$(leak_answers answers-tun | mesh_get answers)" = 0 ]
}

# leak_rogue_routes add|del: what a DHCP server may say (option 121), or another program
leak_rogue_routes() {
    local fig4 fig6
    fig4=$(lab_addr4 fig)
    fig6=$(lab_addr6 fig)
    lab_in client ip route "$1" 0.0.0.0/1 via "$fig4" dev eth0
    lab_in client ip route "$1" 128.0.0.0/1 via "$fig4" dev eth0
    lab_in client ip route "$1" "$(lab_addr4 web)/32" via "$fig4" dev eth0
    lab_in client ip -6 route "$1" "$(lab_addr6 web)/128" via "$fig6" dev eth0
    lab_in client ip route "$1" 10.8.0.1/32 via "$fig4" dev eth0
}

# leak_flap: the cable is pulled and put back. The routes are as a person types them: the kernel finds out where the
# gateway is, which must not be the tunnel.
leak_flap() {
    lab_in client ip link set eth0 down
    sleep 0.2
    lab_in client ip link set eth0 up
    lab_in client ip -6 addr replace "$(lab_addr6 client)/32" dev eth0 nodad
    lab_in client ip route replace default via "$(lab_addr4 client | cut -d. -f1-2).0.1"
    lab_in client ip -6 route replace default via "$(lab_addr6 client | cut -d: -f1-2)::1"
}

# leak_claim add|del: the local network's netmask says that the guard is a neighbour
leak_claim() {
    local guard
    guard=$(lab_addr4 "$LEAK_GUARD")
    lab_in client ip addr "$1" "${guard%.*}.201/24" dev eth0
}

# leak_rogue_resolver: another program makes the attacker this host's resolver, and programs ask it
leak_rogue_resolver() {
    printf 'nameserver %s\nnameserver %s\noptions timeout:1 attempts:1\n' "$(lab_addr4 fig)" "$(lab_addr6 fig)" \
        >"$LAB_DIR/rogue-resolv.conf"
    # shellcheck disable=SC2016 # expanded by the inner shell
    lab_in client unshare --mount sh -c 'mount --bind "$1" "$(readlink -f /etc/resolv.conf)" || exit 1
        shift; timeout 3 "$@" getent ahosts probe.leak.example; true' - "$LAB_DIR/rogue-resolv.conf" "${LEAK_USER[@]}"
}
