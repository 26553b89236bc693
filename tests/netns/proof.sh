#!/bin/bash
# The proof that a client protects its host: two relays see it at its exit, names are answered there, IPv6 too, and what
# goes past the tunnel is refused. Then each part is broken, and the proof must say so. Prints "ok NAME" or "FAIL NAME".
#
#     proof.sh            MVPN_BUILD names the build directory
set -u
# shellcheck source=tests/netns/lab.sh
. "$(dirname "$0")/lab.sh"
# shellcheck source=tests/netns/mesh.sh
. "$(dirname "$0")/mesh.sh"

# shellcheck disable=SC2034 # for lab.sh
LAB_RELAYS="alder birch cedar elm maple" LAB_EXITS="maple"
lab_begin
lab_internet
lab_services
mesh_create both
for witness in cedar elm; do
    mesh_set "$(mesh_conf $witness)" stun_listen "{\"$(lab_addr4 $witness):3478\", \"[$(lab_addr6 $witness)]:3478\"}"
done
mesh_relays_start

# control COMMAND: to the client
control() {
    "$LAB_PYTHON" -c 'import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(json.dumps({"cmd": sys.argv[2]}).encode() + b"\n")
print(s.makefile().readline())' "$LAB_DIR/sock/client" "$1"
}

# prove [SECONDS]: ask for a new one; its end is waited for, without a word to a helper that may stand still
prove() {
    sleep 1.1 # who asks sooner gets the last
    control prove | grep ok && sleep "${1:-1.5}"
}

# proof_is EXIT-ADDRESS DNS IPV6 KILL-SWITCH: true, false or "" each
proof_is() {
    local key is
    mesh_status >"$LAB_DIR/status.json"
    mesh_get proof <"$LAB_DIR/status.json" || return 1
    for key in exit_address dns ipv6 kill_switch; do
        is=$(mesh_get "proof.$key.ok" <"$LAB_DIR/status.json")
        [ "$is" = "$1" ] || return 1
        shift
    done
}

all_holds() {
    local tries=40
    until proof_is true true true true && [ "$(mesh_get proof.exit_address.witnesses <"$LAB_DIR/status.json")" = 2 ]; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.5
        control prove
    done
    [ "$(mesh_get proof.astray <"$LAB_DIR/status.json")" = false ] &&
        [ "$(mesh_get proof.exit_address.seen <"$LAB_DIR/status.json")" = "$(lab_addr4 maple)" ] &&
        [ "$(mesh_get proof.ipv6.seen <"$LAB_DIR/status.json")" = "$(lab_addr6 maple)" ]
}

# around add|del: another program leads packets around the tunnel
around() {
    lab_in client ip rule "$1" priority 100 lookup main
    lab_in client ip -6 rule "$1" priority 100 lookup main
}

helper_of() {
    cat "/proc/$MESH_CLIENT_PID/task/$MESH_CLIENT_PID/children"
}

# DNS of the gateway still goes into the tunnel, whose exit cannot ask.
broken_routes_and_names_show() {
    lab_in maple nft -f - <<'RULES' || return 1
table inet broken {
    chain out {
        type filter hook output priority 0;
        meta l4proto { tcp, udp } th dport 53 drop
    }
}
RULES
    around add
    prove 4.5
    around del
    lab_in maple nft delete table inet broken
    proof_is false false false true && [ "$(mesh_get proof.astray <"$LAB_DIR/status.json")" = true ]
}

# missing_kill_switch_shows [SECONDS]: nobody puts it back, and routes lead around the tunnel: witnesses see the host
# itself, or nobody.
missing_kill_switch_shows() {
    local helper
    helper=$(helper_of)
    # shellcheck disable=SC2086 # process ids are words
    kill -STOP $helper
    lab_in client nft delete table inet meshvpn_guard
    around add
    prove "${1:-1.5}"
    around del
    # shellcheck disable=SC2086
    kill -CONT $helper
    proof_is false true false false
}

person_sees_it() {
    lab_in client env LC_ALL=C "$MESH_PROGRAMS/meshvpn" status --prove --control "$LAB_DIR/sock/client" |
        grep -F "proof     ok address (2 witnesses)  ok names  ok IPv6  ok kill switch"
}

mesh_client_start 3 "$(mesh_identity alder)" "$(mesh_identity birch)" "$(mesh_identity maple)"
mesh_client_wait
lab_check all_holds all_holds
lab_check person_sees_it person_sees_it
lab_check broken_routes_and_names_show broken_routes_and_names_show
lab_check missing_kill_switch_shows missing_kill_switch_shows
lab_check all_holds_again all_holds
mesh_client_stop

# Where only some goes inside the same is asked from the tunnel's address, which does.
MESH_CLIENT_MORE='inside_users = {"daemon"}' mesh_client_start 3 "$(mesh_identity alder)" "$(mesh_identity birch)" \
    "$(mesh_identity maple)"
mesh_client_wait
lab_check inside_all_holds all_holds
lab_check inside_missing_kill_switch_shows missing_kill_switch_shows 4.5
mesh_client_stop
exit "$((LAB_FAILED > 0))"
