# shellcheck shell=bash
# Homes behind NATs of every kind, made of the kernel's own NAT; sourced after lab.sh (bash).
#
#     inet (router) ---- stun: two addresses, observers, coturn
#       |      |   \
#       |      |    +--- NAME             public: no NAT at all
#       |    NAME-c                       a carrier's NAT; its customers are 100.64.0.0/24
#       |     |   |
#     NAME-r NAME-r NAME2-r               a home's NAT; every LAN is 192.168.1.0/24
#       |     |       |
#      NAME  NAME   NAME2                 the home's host: 192.168.1.2, more from .3 on
#
#     . lab.sh; . nat.sh; lab_begin; nat_internet; nat_home a full; nat_home b sym lifetime=20
#
# or, in a lab of lab_internet, nat_home alone. Types (mapping; filtering), of IPv4 and UDP:
#
#     public    no NAT, no filter
#     full      endpoint-independent; endpoint-independent       "full cone"
#     addr      endpoint-independent; address-dependent          "address-restricted cone"
#     port      endpoint-independent; address and port           "port-restricted cone"
#     linux     as port, ports preserved where they can be: plain masquerade
#     addrmap   address-dependent; address and port
#     sym       address and port, random ports; address and port "symmetric"
#     symseq    the same, each port one above the last
#     double    port behind a carrier's port                     carrier-grade NAT
#     doublesym port behind a carrier's sym
#     blocked   as port, and no UDP passes at all (TCP and ICMP do)
#     v6only    no IPv4; IPv6 behind a stateful filter
#
# Options: hairpin=on (whoever is inside reaches a mapping by its outside address; off: nobody does),
# lifetime=SECONDS of a mapping (120), v6=none|filtered|open (none; of the home), carrier=BOX (an
# existing one's customer; types public and double* do not know it).
#
# The rules: a mapping that does not depend on the peer is an element of a dynamic map, made by a
# filter chain just before the SNAT that reads it. Its port is counted (and scattered by the machine's
# byte order): of ports that are drawn some are another mapping's already, and the kernel drops what
# goes to the same peer from there. (addrmap draws: counted ports could be foretold.) Filtering by
# address and port is what conntrack does by itself. What comes from outside without an entry is dropped
# in INPUT: a NAT that accepted it there would have a conntrack entry that makes the next mapping differ.
#
# Addresses: the k-th outermost box or public host has 12.k.140.9 and 2a11:k::9, so every home is in
# a /16 and /32 of its own. Node names have at most 13 letters (interfaces in the router).

NAT_TOOL=$LAB_HERE/nat_tool.py
NAT_STUN4=12.201.158.93
NAT_STUN4_OTHER=12.202.77.41
NAT_STUN6=2a11:c9::93
NAT_STUN6_OTHER=2a11:c9:1::41
NAT_PORT=7000  # of the observers; the one above, too
NAT_LINK=      # linkem settings of the wires to the router that are made from now on
NAT_COUNT=0
NAT_LIFETIME=120
declare -A NAT_WAN NAT_LAN NAT_HOSTS NAT_OUTER NAT_TYPE NAT_SEEN_AS

NAT_TYPES="public full addr port linux addrmap sym symseq double doublesym blocked v6only"

# nat_internet: the router and the observers' node.
nat_internet() {
    if ! lab_in inet true 2>/dev/null; then
        lab_node inet
        lab_in inet sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward
            echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
    fi
    lab_node stun
    lab_wire stun "$NAT_STUN4" "$NAT_STUN6"
    lab_in inet ip route add "$NAT_STUN4_OTHER/32" via "$NAT_STUN4"
    lab_in stun ip -batch - <<BATCH || lab_die "cannot set up the observers"
addr add $NAT_STUN4_OTHER/32 dev eth0
addr add $NAT_STUN6_OTHER/128 dev eth0 nodad
BATCH
}

# nat_observers: our own, and coturn if it is there and wanted ("coturn").
nat_observers() {
    lab_spawn stun observers "$LAB_PYTHON" "$NAT_TOOL" serve "$NAT_PORT" "$NAT_STUN4" \
        "$NAT_STUN4_OTHER" "$NAT_STUN6" "$NAT_STUN6_OTHER"
    if [ "${1:-}" = coturn ]; then
        lab_spawn stun coturn turnserver -n --stun-only --listening-port=3478 --alt-listening-port=3479 \
            --listening-ip="$NAT_STUN4" --listening-ip="$NAT_STUN4_OTHER" \
            --listening-ip="$NAT_STUN6" --listening-ip="$NAT_STUN6_OTHER" --no-tcp --no-tls --no-dtls \
            --no-cli --log-file=stdout --pidfile="$LAB_DIR/coturn.pid" --userdb="$LAB_DIR/coturn.db"
        lab_wait_port stun udp 3478 || lab_die "coturn does not start: $(tail -n 3 "$LAB_DIR/log/coturn.log")"
    fi
    lab_wait_port stun tcp "$NAT_PORT" || lab_die "the observers do not start"
}

# nat_option NAME DEFAULT OPTION...: the value of NAME=.
nat_option() {
    local name=$1 value=$2 option
    shift 2
    for option; do
        [ "${option%%=*}" = "$name" ] && value=${option#*=}
    done
    echo "$value"
}

# nat_wan NODE: join it to the router at the next address, which NAT_WAN[NODE] keeps.
nat_wan() {
    NAT_COUNT=$((NAT_COUNT + 1))
    NAT_WAN[$1]=12.$NAT_COUNT.140.9
    # shellcheck disable=SC2086 # settings are words
    lab_wire "$1" "${NAT_WAN[$1]}" "2a11:$(printf %x "$NAT_COUNT")::9" $NAT_LINK
}

# ---- the box ----

# nat_rules TYPE HAIRPIN LIFETIME WAN V6: the ruleset of a box, eth0 outside, br0 inside.
nat_rules() {
    local type=$1 hairpin=$2 life=$3 wan=$4 v6=$5 key='ip saddr . udp sport' types='ipv4_addr . inet_service' ports=
    local start=$((10000 + RANDOM)) drawn="numgen random mod 54000 offset 10000"
    local port="numgen inc mod 4096 offset $start" hairpin_port="numgen inc mod 4096 offset $((start + 4096))"
    local dynamic="flags dynamic,timeout; timeout ${life}s; size 65535;"
    [ "$type" = addrmap ] && key="$key . ip daddr" && types="$types . ipv4_addr" && port=$drawn
    cat <<RULES
table ip nat_lab {
  map eim { type $types : inet_service; $dynamic }
  map rev { type inet_service : ipv4_addr . inet_service; $dynamic }
  set seen { type inet_service . ipv4_addr; $dynamic }
  chain input {
    type filter hook input priority 0; policy drop;
    iifname lo accept
    ip protocol icmp accept
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname eth0 ct state new ct status & dnat == 0 drop
RULES
    [ "$type" = blocked ] && echo '    meta l4proto udp drop'
    echo '  }'
    case $type in
    full | addr | port | addrmap | blocked)
        cat <<RULES
  chain map_port {
    type filter hook postrouting priority 99;
    oifname eth0 ct direction original ct state new meta l4proto udp add @eim { $key : $port }
    iifname br0 oifname br0 ct direction original ct state new ct status dnat meta l4proto udp add @eim { $key : $hairpin_port }
    oifname eth0 ct direction original meta l4proto udp update @eim { $key : $drawn }
    iifname br0 oifname br0 ct direction original ct status dnat meta l4proto udp update @eim { $key : $drawn }
  }
  chain note_port {
    type filter hook postrouting priority 101;
    oifname eth0 meta l4proto udp ct direction original update @rev { udp sport : ct original ip saddr . ct original proto-src }
    oifname eth0 meta l4proto udp ct direction reply update @rev { udp sport : ct reply ip saddr . ct reply proto-src }
    oifname eth0 meta l4proto udp update @seen { udp sport . ip daddr }
  }
  chain source {
    type nat hook postrouting priority 100;
    oifname eth0 meta l4proto udp snat ip to $wan:$key map @eim
    iifname br0 oifname br0 ct status dnat meta l4proto udp snat ip to $wan:$key map @eim
    oifname eth0 masquerade
  }
RULES
        echo '  chain destination {'
        echo '    type nat hook prerouting priority -100;'
        # A hairpin does not look at who was spoken to: everyone inside may.
        [ "$hairpin" = on ] && echo "    iifname br0 ip daddr $wan meta l4proto udp dnat ip to udp dport map @rev"
        case $type in
        full) echo '    iifname eth0 meta l4proto udp dnat ip to udp dport map @rev' ;;
        addr) echo '    iifname eth0 udp dport . ip saddr @seen dnat ip to udp dport map @rev' ;;
        esac
        echo '  }'
        ;;
    *)
        echo '  chain source {'
        echo '    type nat hook postrouting priority 100;'
        case $type in
        sym) echo '    oifname eth0 meta l4proto udp masquerade random,fully-random' ;;
        symseq)
            # An explicit list: the kernel counts in the machine's byte order.
            ports=$(awk 'BEGIN { for (i = 0; i < 4096; i++) printf "%s%d : %d", i ? ", " : "", i, 30000 + i }')
            echo "    oifname eth0 meta l4proto udp snat ip to $wan:numgen inc mod 4096 map { $ports }"
            ;;
        esac
        echo '    oifname eth0 masquerade'
        echo '  }'
        ;;
    esac
    echo '}'
    [ "$v6" = open ] || cat <<RULES
table ip6 nat_lab {
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname eth0 ct state new meta l4proto != ipv6-icmp drop
  }
}
RULES
}

# nat_box NAME TYPE [OPTION...]: a NAT with a LAN of its own and nobody in it yet.
nat_box() {
    local name=$1 type=$2 lan=192.168.1 carrier hairpin life v6 number prefix
    shift 2
    carrier=$(nat_option carrier '' "$@")
    hairpin=$(nat_option hairpin off "$@")
    life=$(nat_option lifetime "$NAT_LIFETIME" "$@")
    v6=$(nat_option v6 none "$@")
    lan=$(nat_option lan 192.168.1 "$@")
    lab_node "$name"
    lab_in "$name" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward
        echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
        echo 0 >/proc/sys/net/ipv4/conf/all/send_redirects
        echo 0 >/proc/sys/net/ipv4/conf/default/send_redirects
        ip link add br0 type bridge mcast_snooping 0
        for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e "$f" ] || echo 0 >"$f"; done' ||
        lab_die "cannot set up $name"
    NAT_LAN[$name]=$lan
    NAT_HOSTS[$name]=1
    NAT_OUTER[$name]=$carrier
    NAT_TYPE[$name]=$type
    lab_in "$name" ip -batch - <<BATCH || lab_die "cannot set up the LAN of $name"
addr add $lan.1/24 dev br0
link set br0 up
BATCH
    if [ -n "$carrier" ]; then
        nat_join "$name" "$carrier"
    else
        nat_wan "$name"
    fi
    if [ "$v6" != none ] && [ -z "$carrier" ]; then
        number=$(printf %x "$NAT_COUNT")
        prefix=2a11:$number:1
        lab_in "$name" ip -6 addr add "$prefix::1/64" dev br0 nodad
        lab_in inet ip -6 route add "$prefix::/64" via "2a11:$number::9"
    fi
    # The tracking's own times are the mapping's; of TCP they stay.
    lab_in "$name" sh -c "echo $life >/proc/sys/net/netfilter/nf_conntrack_udp_timeout
        echo $life >/proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream"
    nat_rules "$type" "$hairpin" "$life" "${NAT_WAN[$name]}" "$v6" | lab_in "$name" nft -f - ||
        lab_die "the rules of $name are refused"
}

# nat_join NODE BOX: a wire into the LAN of a box, its next address; NAT_WAN[NODE] keeps it.
nat_join() {
    local node=$1 box=$2 lan=${NAT_LAN[$2]} port
    NAT_HOSTS[$box]=$((NAT_HOSTS[$box] + 1))
    port=lan${NAT_HOSTS[$box]}
    NAT_WAN[$node]=$lan.${NAT_HOSTS[$box]}
    NAT_OUTER[$node]=$box
    lab_in "$node" ip link add eth0 mtu "$LAB_MTU" type veth peer name "$port" mtu "$LAB_MTU" \
        netns "$(lab_ns "$box")" || lab_die "cannot make a veth pair"
    lab_in "$box" ip link set "$port" master br0 up
    lab_in "$node" ip -batch - <<BATCH || lab_die "cannot set up the wire of $node"
addr add $lan.${NAT_HOSTS[$box]}/24 dev eth0
link set eth0 up
route add default via $lan.1
BATCH
}

# nat_host NODE BOX [v6only]: one more host on the LAN of a box.
nat_host() {
    lab_node "$1"
    nat_attach "$@"
}

nat_attach() {
    local node=$1 box=$2 prefix
    nat_join "$node" "$box"
    nat_note_seen "$node"
    [ "${3:-}" = v6only ] && lab_in "$node" ip -4 addr flush dev eth0
    prefix=$(lab_in "$box" ip -6 -o addr show dev br0 scope global | awk '{ sub(/1\/64/, "", $4); print $4 }')
    [ -n "$prefix" ] && lab_in "$node" ip -batch - <<BATCH
addr add $prefix${NAT_HOSTS[$box]}/64 dev eth0 nodad
route add default via ${prefix}1
BATCH
    return 0
}

# nat_home NAME TYPE [OPTION...]: a host, its NAT NAME-r, for double types the carrier's NAME-c.
# NAT_SEEN_AS[NAME] is its address as the internet sees it.
nat_home() {
    local name=$1 type=$2
    shift 2
    NAT_TYPE[$name]=$type
    case $type in
    public)
        lab_node "$name"
        nat_wan "$name"
        ;;
    double | doublesym)
        nat_carrier "$name-c" "$([ "$type" = double ] && echo port || echo sym)" "$@"
        nat_box "$name-r" port "$@" hairpin=off carrier="$name-c"
        nat_host "$name" "$name-r"
        ;;
    v6only)
        nat_box "$name-r" port "$@" v6=filtered
        nat_host "$name" "$name-r" v6only
        ;;
    *)
        nat_box "$name-r" "$type" "$@"
        nat_host "$name" "$name-r"
        ;;
    esac
    nat_note_seen "$name"
}

nat_note_seen() {
    local outer=$1
    while [ -n "${NAT_OUTER[$outer]:-}" ]; do
        outer=${NAT_OUTER[$outer]}
    done
    NAT_SEEN_AS[$1]=${NAT_WAN[$outer]}
}

# nat_carrier NAME TYPE [OPTION...]: a carrier's NAT for homes with carrier=NAME.
nat_carrier() {
    nat_box "$@" lan=100.64.0
}

# ---- what happens to them ----

# nat_forget BOX: as if it had been switched off and on: no mapping is left. (Of double types: each box.)
nat_forget() {
    lab_in "$1" conntrack -F 2>/dev/null
    lab_in "$1" nft -f - <<'RULES'
flush map ip nat_lab eim
flush map ip nat_lab rev
flush set ip nat_lab seen
RULES
}

# nat_move NODE BOX: out of the LAN it is in, into another's, as one who takes a laptop along.
nat_move() {
    lab_in "$1" ip link delete eth0
    nat_attach "$1" "$2"
}

# nat_entries BOX: how many UDP flows it tracks.
nat_entries() {
    lab_in "$1" conntrack -L -p udp 2>/dev/null | wc -l
}

# nat_punch NODE NODE FILE [OPTION...]: the plain puncher between two; its JSON in FILE.0 and FILE.1.
nat_punch() {
    local a=$1 b=$2 file=$3 session first
    shift 3
    session=$a/$b/$RANDOM$RANDOM
    lab_in "$a" "$LAB_PYTHON" "$NAT_TOOL" punch "$NAT_PORT" "$NAT_STUN4" "$NAT_STUN4_OTHER" \
        "$session" 0 "$@" >"$file.0" 2>&1 &
    first=$!
    lab_in "$b" "$LAB_PYTHON" "$NAT_TOOL" punch "$NAT_PORT" "$NAT_STUN4" "$NAT_STUN4_OTHER" \
        "$session" 1 "$@" >"$file.1" 2>&1
    wait "$first"
}
