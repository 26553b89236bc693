#!/bin/bash
# A relay at home gets a port of its gateway, which is a real miniupnpd (package miniupnpd-nftables),
# by PCP, by NAT-PMP and by UPnP; is reached there from outside; gets it back when the gateway has
# restarted; and gives it up at the end. One "ok NAME" or "FAIL NAME" line per check for ./run test.
#
#     inet --- gate (NAT, miniupnpd) --- alder (relay, 192.168.1.2)
#       +----- boot, birch
set -u
. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/mesh.sh"
LAB_RELAYS="birch"
LAB_EXITS=
GATE4=$(lab_addr4 elm)

# The names of chains are what /etc/miniupnpd's scripts make.
gate_tables() {
    lab_in gate nft -f - <<'NFT'
table inet filter {
    chain forward {
        type filter hook forward priority 0; policy drop;
        iifname "lan0" accept
        ct state established,related accept
        jump miniupnpd
    }
    chain miniupnpd { }
    chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
    chain postrouting {
        type nat hook postrouting priority 100
        jump postrouting_miniupnpd
        oifname "eth0" masquerade
    }
    chain prerouting_miniupnpd { }
    chain postrouting_miniupnpd { }
}
NFT
}

gate() {
    lab_node gate
    lab_wire gate "$GATE4" "$(lab_addr6 elm)"
    lab_node alder
    lab_in alder ip link add eth0 type veth peer name lan0 netns "$(lab_ns gate)"
    lab_in gate sh -c 'ip addr add 192.168.1.1/24 dev lan0; ip link set lan0 up
        echo 1 >/proc/sys/net/ipv4/ip_forward'
    lab_in alder sh -c 'ip addr add 192.168.1.2/24 dev eth0; ip link set eth0 up
        ip route add default via 192.168.1.1'
    gate_tables
}

# gate_start UPNP PCP_NATPMP: "yes" or "no" each
gate_start() {
    cat >"$LAB_DIR/miniupnpd.conf" <<CONF
ext_ifname=eth0
listening_ip=lan0
http_port=5000
enable_upnp=$1
enable_natpmp=$2
system_uptime=no
secure_mode=yes
min_lifetime=30
max_lifetime=86400
uuid=6f2c1f0a-7c1c-4f1e-9d0b-0a1b2c3d4e5f
lease_file=$LAB_DIR/leases
upnp_table_name=filter
upnp_nat_table_name=filter
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
allow 1024-65535 192.168.1.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
CONF
    rm -f "$LAB_DIR/leases"
    lab_spawn gate miniupnpd miniupnpd -d -f "$LAB_DIR/miniupnpd.conf" -P "$LAB_DIR/miniupnpd.pid"
    GATE_PID=$LAB_PID
    [ "$2" != yes ] || lab_wait_port gate udp 5351
    [ "$1" != yes ] || lab_wait_port gate tcp 5000
}

# gate_forget: as when it loses power
gate_forget() {
    # A gateway that restarts within seconds of its start looks as if it had gone on (RFC 6887 §8.5).
    sleep 6
    lab_stop "$GATE_PID" KILL
    lab_in gate nft flush chain inet filter prerouting_miniupnpd
    lab_in gate nft flush chain inet filter miniupnpd
    lab_in gate nft flush chain inet filter postrouting_miniupnpd
    lab_in gate conntrack -F 2>/dev/null
}

gate_rules() {
    lab_in gate nft list chain inet filter prerouting_miniupnpd
}

# How a gateway of NAT-PMP alone answers PCP (RFC 6887 appendix A); the real one knows both, so PCP's
# packets are kept from it.
gate_without_pcp() {
    lab_in gate nft add table ip nopcp
    lab_in gate nft "add chain ip nopcp input { type filter hook input priority 0; }"
    lab_in gate nft add rule ip nopcp input udp dport 5351 @th,64,8 2 drop
}

until_true() {
    local tenths=$1
    shift
    until "$@"; do
        tenths=$((tenths - 1))
        [ "$tenths" -gt 0 ] || { tail -n 5 "$LAB_DIR/log/alder.log"; gate_rules; return 1; }
        sleep 0.1
    done
}

rule_is() {
    gate_rules | grep -q "dport $LAB_PORT .*dnat.* 192.168.1.2:$LAB_PORT"
}

rule_is_not() {
    ! rule_is
}

# mapped PROTOCOL: as the relay says, and as the gateway's rules are
mapped() {
    [ "$(mesh_node_get alder port_mapping.protocol)" = "$1" ] &&
        [ "$(mesh_node_get alder port_mapping.address)" = "$GATE4:$LAB_PORT" ] && rule_is
}

# A neighbour outside has learnt the address and has a link to it.
reached() {
    lab_in birch "$LAB_PYTHON" - "$GATE4" "$LAB_PORT" <<'PY'
import os, socket, sys
# What is no packet of ours gets no answer, but a closed port does: ICMP, at once.
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], int(sys.argv[2])))
s.settimeout(0.5)
s.send(os.urandom(64))
try:
    s.recv(2000)
except TimeoutError:
    pass
PY
    [ $? = 0 ] && lab_in gate conntrack -L -p udp 2>/dev/null |
        grep -q "src=$(lab_addr4 birch) dst=$GATE4 .*dport=$LAB_PORT .*src=192.168.1.2 "
}

# boot, itself, and the one at home
knows_three() {
    [ "$(mesh_node_get birch view.relays)" = 3 ]
}

relay_starts() {
    mesh_relay_start alder
    lab_wait_port alder udp "$LAB_PORT"
}

stop_relay() {
    mesh_node_stop alder
    until_true 60 rule_is_not
}

command -v miniupnpd >/dev/null || lab_die "miniupnpd is not installed (miniupnpd-nftables)"
lab_begin
lab_internet
gate
mesh_create found
mesh_add_node alder
mesh_set "$(mesh_conf alder)" listen "{\"0.0.0.0:$LAB_PORT\"}"
mesh_set "$(mesh_conf alder)" address "{}"
mesh_set "$(mesh_conf alder)" port_mapping true
mesh_relays_start boot birch

gate_start no yes
relay_starts
lab_check pcp_maps until_true 50 mapped PCP
lab_check pcp_published until_true 100 knows_three
lab_check pcp_reached reached
gate_forget
gate_start no yes
lab_check pcp_renewed_after_restart until_true 80 rule_is
lab_check pcp_removed_at_the_end stop_relay

gate_without_pcp
relay_starts
lab_check natpmp_maps until_true 140 mapped NAT-PMP
lab_check natpmp_reached reached
# (A restart is noticed by the check of each minute: miniupnpd announces it by PCP alone. Unit test.)
lab_check natpmp_removed_at_the_end stop_relay

lab_stop "$GATE_PID"
gate_start yes no
relay_starts
lab_check upnp_maps until_true 80 mapped UPnP
lab_check upnp_reached reached
lab_check upnp_removed_at_the_end stop_relay
[ "$LAB_FAILED" = 0 ]
