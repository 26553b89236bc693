#!/bin/bash
# A DHCP server of the local network that lies (TunnelVision: routes by option 121 for everything, for a page's own
# address and for the tunnel's range), with a real server (dnsmasq) and a real client (udhcpc of busybox). The lease is
# had and renewed with the kill switch on, and nothing goes where the server wants it. Prints "ok NAME" or "FAIL NAME".
#
#     rogue_dhcp.sh            MVPN_BUILD names the build directory
set -u
# shellcheck source=tests/netns/lab.sh
. "$(dirname "$0")/lab.sh"
# shellcheck source=tests/netns/mesh.sh
. "$(dirname "$0")/mesh.sh"
# shellcheck source=tests/netns/leak_lab.sh
. "$(dirname "$0")/leak_lab.sh"

leak_lab_begin
NET=$(lab_addr4 client | cut -d. -f1-2)
FIG=$(lab_addr4 fig)
LEASE=$NET.180.10

cat >"$LAB_DIR/udhcpc.sh" <<'SCRIPT'
#!/bin/sh
# What a system's script does with a lease: the address, and the routes of option 121.
case $1 in bound | renew) ;; *) exit 0 ;; esac
ip addr replace "$ip/$mask" dev "$interface"
# shellcheck disable=SC2086,SC2154 # pairs of words, from udhcpc
set -- $staticroutes
while [ $# -ge 2 ]; do
    ip route replace "$1" via "$2" dev "$interface"
    shift 2
done
SCRIPT
chmod +x "$LAB_DIR/udhcpc.sh"

# has_lease COUNT: the server confirmed it so often
has_lease() {
    local tries=60
    until [ "$(grep -c DHCPACK "$LAB_DIR/log/dhcpd.log")" -ge "$1" ]; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || {
            cat "$LAB_DIR/log/dhcpd.log" "$LAB_DIR/log/udhcpc.log"
            return 1
        }
        sleep 0.1
    done
}

lease_comes() {
    has_lease 1 && sleep 0.3 && lab_in client ip -o addr show dev eth0 | grep -F "$LEASE/" &&
        lab_in client ip route | grep -F "0.0.0.0/1 via $FIG"
}

# By a packet from UDP port 68 to the server itself, which is what udhcpc sends on SIGUSR1.
lease_is_renewed() {
    local before
    before=$(grep -c DHCPACK "$LAB_DIR/log/dhcpd.log")
    kill -USR1 "$UDHCPC"
    has_lease $((before + 1)) && grep -q 'renew' "$LAB_DIR/log/udhcpc.log"
}

# A server behind a router, as companies have them; the same packet from another port goes into the tunnel.
far_server_is_asked() {
    lab_in client ip route get "$(lab_addr4 dns)" ipproto udp sport 68 dport 67 | grep -F "dev eth0" &&
        lab_in client ip route get "$(lab_addr4 dns)" ipproto udp sport 69 dport 67 | grep -F "dev $MESH_TUN"
}

page_comes() {
    mesh_curl -o /dev/null "http://$(lab_addr4 web)/" && mesh_dns | grep -q .
}

# The attacker forwards nothing and answers nothing of ours.
attacker_sees_nothing() {
    lab_in fig nft list chain inet seen forward
    lab_in fig nft list chain inet seen forward | grep -q 'packets 0 '
}

lab_in fig nft -f - <<RULES
table inet seen {
    chain forward {
        type filter hook forward priority 0;
        ip saddr { $(lab_addr4 client), $LEASE } ip daddr != { $(lab_addr4 alder), $(lab_addr4 birch), $(lab_addr4 maple) } counter drop
    }
}
RULES
lab_spawn fig dhcpd dnsmasq --no-daemon --conf-file=/dev/null --port=0 --user=root --pid-file= --interface=eth0 \
    --dhcp-authoritative --dhcp-range="$LEASE,$LEASE,255.255.0.0,2m" --dhcp-leasefile="$LAB_DIR/leases" --log-dhcp --no-ping \
    --dhcp-option=option:router,"$FIG" --log-facility=- \
    --dhcp-option=option:classless-static-route,"0.0.0.0/1,$FIG,128.0.0.0/1,$FIG,$(lab_addr4 web)/32,$FIG,10.8.0.0/24,$FIG"

leak_client_start ""
mesh_client_wait
leak_begin 300
lab_spawn client udhcpc busybox udhcpc -f -i eth0 -s "$LAB_DIR/udhcpc.sh" -O staticroutes -t 5 -T 1
UDHCPC=$LAB_PID
lab_check lease_comes lease_comes
lab_check page_through_the_tunnel page_comes
lab_check lease_is_renewed lease_is_renewed
lab_check far_server_is_asked far_server_is_asked
sleep 0.5
lab_stop "$UDHCPC"
leak_end
lab_check nothing_leaked leak_none 100
lab_check attacker_sees_nothing attacker_sees_nothing
mesh_client_stop
exit "$((LAB_FAILED > 0))"
