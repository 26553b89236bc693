#!/bin/bash
# What the programs may still do once they run, and what an intruder in one of them can do: a running
# network of every program is looked at from outside (/proc), and a program with a planted bug tries
# what it should not (attack.c), once in each sandbox and once in none, so that the test can fail.
# Prints "ok NAME" or "FAIL NAME". Topology: lab.sh.
set -u
. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/mesh.sh"

PROGRAMS="boot disc alder maple client" # one of each kind
CAP_NET_ADMIN=0000000000001000
CAP_NONE=0000000000000000

# ---- looking at processes ----

# status PID KEY: a line of /proc/PID/status
status() {
    awk -v key="$2:" '$1 == key { $1 = ""; print substr($0, 2) }' "/proc/$1/status"
}

# helper_of PID
helper_of() {
    tr -d ' ' <"/proc/$1/task/$1/children"
}

# is_confined PID CAPABILITIES: all that a sandbox promises and the kernel tells
is_confined() {
    local key bad=
    for key in CapInh CapAmb; do
        [ "$(status "$1" $key)" = "$CAP_NONE" ] || bad="$bad $key"
    done
    for key in CapEff CapPrm CapBnd; do
        [ "$(status "$1" $key)" = "$2" ] || bad="$bad $key=$(status "$1" $key)"
    done
    [ "$(status "$1" Seccomp)" = 2 ] || bad="$bad Seccomp"
    [ "$(status "$1" NoNewPrivs)" = 1 ] || bad="$bad NoNewPrivs"
    grep -q '^Max core file size  *0  *0 ' "/proc/$1/limits" || bad="$bad core"
    # Of a process that may not be dumped this belongs to root, whoever runs it.
    [ "$(stat -c %u "/proc/$1/environ")" = 0 ] || bad="$bad dumpable"
    [ -z "$bad" ] || echo "process $1:$bad"
    [ -z "$bad" ]
}

# One user id in all four places, not root's; no further groups.
is_unprivileged() {
    local ids groups
    ids=$(status "$1" Uid | tr '\t' ' ')
    groups=$(status "$1" Groups)
    echo "uids $ids, groups '$groups'"
    set -- $ids
    [ "$1" != 0 ] && [ "$1" = "$2" ] && [ "$1" = "$3" ] && [ "$1" = "$4" ] && [ -z "${groups// /}" ]
}

worker_is_confined() {
    is_unprivileged "${MESH_PIDS[$1]}" && is_confined "${MESH_PIDS[$1]}" $CAP_NONE
}

helper_is_confined() {
    local helper capabilities=$CAP_NONE
    helper=$(helper_of "${MESH_PIDS[$1]}")
    case $1 in maple | oak | client) capabilities=$CAP_NET_ADMIN ;; esac
    [ "$(cat "/proc/$helper/comm")" = mvpn-helper ] && is_confined "$helper" $capabilities
}

keys_are_locked() {
    local kb
    kb=$(status "${MESH_PIDS[$1]}" VmLck)
    echo "$kb"
    [ "${kb%% *}" -gt 0 ]
}

# what_was_written FILE: by the user that the program became
is_written_by() {
    local node=$1 file=$LAB_DIR/run/$1/$2
    ls -ln "$LAB_DIR/run/$node"
    [ "$(stat -c %u "$file")" = "$(status "${MESH_PIDS[$node]}" Uid | awk '{ print $1 }')" ]
}

# until_gone SECONDS COMMAND...: until the command fails
until_gone() {
    local tries=$(($1 * 20))
    shift
    while "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.05
    done
}

# ---- attacks ----

# attack ROLE: into $LAB_DIR/attack.ROLE
attack() {
    local dir=$LAB_DIR/attack
    rm -rf "$dir"
    mkdir -p "$dir/state" "$dir/keys" "$dir/other"
    touch "$dir/keys/onion.key" "$dir/keys/identity.key" "$dir/keys/relay.conf" "$dir/other/readable" "$dir/other/removable"
    chmod 600 "$dir"/keys/*
    # Open to all users: landlock alone stands in the way.
    chmod 666 "$dir"/other/*
    chmod 1777 "$dir/other"
    # Ping sockets for all groups: the filter alone stands in the way.
    unshare -n sh -c 'echo "0 2147483647" >/proc/sys/net/ipv4/ping_group_range && exec "$@"' sh \
        "$LAB_BUILD/tests/netns/attack" "$1" "$dir/state" "$dir/keys" "$dir/other" >"$LAB_DIR/attack.$1" 2>&1 </dev/null
    echo "exit $?" >>"$LAB_DIR/attack.$1"
}

# outcome ROLE: the names of what was possible
outcome() {
    awk '$1 == "possible" { print $2 }' "$LAB_DIR/attack.$1" | sort | tr '\n' ' '
}

ATTACKS="become-root change-links change-owner dumpable fork io-uring list-routes make-executable
    map-writable-and-executable memory-file mount netlink-socket new-namespace open-tun packet-socket ping-socket ptrace
    raw-socket read-etc-shadow read-identity-key read-memory-of-others read-outside remove-outside
    replace-configuration replace-onion-key set-mark signal-by-io signal-others signal-threads-of-others
    udp-socket unix-socket write-outside write-state"

sorted() {
    # shellcheck disable=SC2086 # names are words
    printf '%s\n' $1 | sort | tr '\n' ' '
}

# only_possible ROLE NAME...: this, and running a program is not
only_possible() {
    local role=$1
    shift
    cat "$LAB_DIR/attack.$role"
    [ "$(outcome "$role")" = "$(sorted "$*")" ] && grep -q '^refused exec ' "$LAB_DIR/attack.$role"
}

all_possible() {
    cat "$LAB_DIR/attack.none"
    # The last line is of true(1), which the attacker became.
    [ "$(outcome none)" = "$(sorted "$ATTACKS")" ] && grep -qx 'exit 0' "$LAB_DIR/attack.none"
}

landlock_is_there() {
    head -n 1 "$LAB_DIR/attack.worker"
    grep -q '^landlock [1-9]' "$LAB_DIR/attack.worker"
}

# ---- ends ----

has_nft_table() {
    lab_in "$1" nft list tables | grep -q meshvpn_
}

has_rules() {
    lab_in client ip rule | grep -q 3200
}

has_control_socket() {
    [ -e "$LAB_DIR/sock/$1" ]
}

runs() {
    kill -0 "$1"
}

everything_is_gone() { # NODE HELPER
    until_gone 3 runs "$2" && ! has_control_socket "$1"
}

ended_with_error() { # PID LOG
    until_gone 3 runs "$1" || return 1
    wait "$1"
    local code=$?
    tail -n 3 "$LAB_DIR/log/$2.log"
    [ "$code" = 1 ] && grep -q 'helper process ended' "$LAB_DIR/log/$2.log"
}

forwarding() {
    lab_in "$1" cat /proc/sys/net/ipv4/ip_forward
}

page_arrives() {
    mesh_curl -o /dev/null -w '%{http_code}' "http://$(lab_addr4 web)/" | grep -q 200
}

# ---- the run ----

lab_begin
for role in none worker pinger helper; do
    attack $role
done
lab_check attacks_succeed_without_sandbox all_possible
lab_check attacks_fail_in_a_worker only_possible worker list-routes replace-onion-key udp-socket write-state
lab_check attacks_fail_in_a_worker_with_ping only_possible pinger list-routes ping-socket replace-onion-key udp-socket write-state
lab_check attacks_fail_in_a_helper only_possible helper change-links list-routes set-mark
lab_check landlock_was_tested landlock_is_there

# shellcheck disable=SC2034 # read by lab.sh
LAB_ENTRIES="boot disc"
lab_internet
lab_services
mesh_create found
before_forwarding=$(forwarding maple)
mesh_relays_start
mesh_join
mesh_client_start 3
mesh_client_wait
for node in $PROGRAMS; do
    lab_check "worker_of_$node" worker_is_confined "$node"
    lab_check "helper_of_$node" helper_is_confined "$node"
    lab_check "keys_of_${node}_are_locked" keys_are_locked "$node"
done
lab_check traffic_flows page_arrives
mesh_client_stop
# With it a killed client leaves the host closed (leak.sh); this is about all else.
MESH_KILL_SWITCH=false
mesh_client_start 3
mesh_client_wait
lab_check state_is_written is_written_by client guards
lab_check survey_is_written is_written_by disc survey

# The terminal's and systemd's signals go to all processes of a program: the helper outlives them.
helper=$(helper_of "$MESH_CLIENT_PID")
kill -TERM "$helper"
kill -INT "$helper"
sleep 0.2
lab_check helper_ignores_signals runs "$helper"
mesh_client_stop KILL
lab_check killed_client_is_cleaned_up eval 'everything_is_gone client "$helper" && ! has_rules'

helper=$(helper_of "${MESH_PIDS[maple]}")
lab_check exit_was_set_up eval 'has_nft_table maple && [ "$(forwarding maple)" = 1 ]'
mesh_node_stop maple KILL
lab_check killed_exit_is_cleaned_up eval 'everything_is_gone maple "$helper" && ! has_nft_table maple && [ "$(forwarding maple)" = "$before_forwarding" ] && [ -z "$(ls "$LAB_DIR/host/maple" | grep nat_)" ]'
for _ in 1 2 3; do # the helper of the one before may still be at work
    mesh_relay_start maple
    lab_wait_port maple udp "$LAB_PORT"
    mesh_node_stop maple KILL
done
mesh_relay_start maple
lab_wait_port maple udp "$LAB_PORT"
sleep 0.5
lab_check restarted_at_once eval 'has_nft_table maple && [ "$(forwarding maple)" = 1 ]'

helper=$(helper_of "${MESH_PIDS[oak]}")
kill -KILL "$helper"
lab_check without_helper_it_ends ended_with_error "${MESH_PIDS[oak]}" oak
lab_in oak "$MESH_PROGRAMS/meshvpn-exit-node" --config "$(mesh_conf oak)" --cleanup
lab_check cleanup_after_a_killed_helper eval '! has_nft_table oak && [ "$(forwarding oak)" = 0 ]'
unset 'MESH_PIDS[oak]'

# Switched off, the same looks show it: they can fail.
mesh_set "$(mesh_conf alder)" sandbox off
mesh_node_stop alder
mesh_relay_start alder
lab_wait_port alder udp "$LAB_PORT"
sleep 0.3
lab_check sandbox_off_is_told grep -q 'sandbox = off' "$LAB_DIR/log/alder.log"
lab_check sandbox_off_is_seen eval '! worker_is_confined alder && ! helper_is_confined alder'
mesh_set "$(mesh_conf birch)" user '"no-such-user"'
lab_check unknown_user_is_refused eval '! lab_in birch "$MESH_PROGRAMS/meshvpn-relay" --config "$(mesh_conf birch)" --check 2>&1 | grep -q "in order"'
mesh_set "$(mesh_conf cedar)" user nobody
mesh_node_stop cedar
mesh_relay_start cedar
lab_wait_port cedar udp "$LAB_PORT"
sleep 0.3
lab_check named_user_is_used eval '[ "$(status "${MESH_PIDS[cedar]}" Uid | awk "{ print \$1 }")" = "$(id -u nobody)" ]'
exit $((LAB_FAILED > 0))
