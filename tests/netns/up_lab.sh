# shellcheck shell=bash
# What up.sh and failures.sh share: a network, and meshvpn up in the client's place. After lab.sh and mesh.sh.

up_lab_begin() {
    mesh_need_programs
    lab_begin "${UP_LAB:-up}" || exit 1
    lab_internet || exit 1
    lab_services || exit 1
    mesh_create "${UP_MODE:-found}"
    mesh_relays_start
    chmod 755 "$LAB_DIR" "$LAB_DIR/sock" # others may look, as at /etc and /run
    up_configure
}

# up_configure [LINE...]: the client's configuration, with further lines
up_configure() {
    local line
    mkdir -p "$LAB_DIR/run/client" "$LAB_DIR/host/client"
    {
        echo "network_file = \"${MESH_NETWORK:-$LAB_DIR/net/network.conf}\""
        echo "control_socket = \"$LAB_DIR/sock/client\""
        echo "run_dir = \"$LAB_DIR/host/client\""
        echo "state_dir = \"$LAB_DIR/run/client\""
        echo "dns = $MESH_DNS"
        for line in "$@"; do
            echo "$line"
        done
    } >"$LAB_DIR/client.conf"
}

# up_state: what a client could leave in its host
up_state() {
    lab_in client ip link
    lab_in client ip rule
    lab_in client ip -6 rule
    lab_in client ip route show table all
    lab_in client nft list ruleset
}

# up_meshvpn STATUS ARGUMENT...: meshvpn ends with STATUS; its words are in $LAB_DIR/out
up_meshvpn() {
    local want=$1 got
    shift
    lab_in client ${UP_ENV:-} timeout 90 "$MESH_PROGRAMS/meshvpn" "$@" >"$LAB_DIR/out" 2>&1 </dev/null
    got=$?
    cat "$LAB_DIR/out"
    echo "exit status $got, wanted $want"
    [ "$got" = "$want" ]
}

# up_says STATUS PATTERN OPTION...: meshvpn up
up_says() {
    local want=$1 pattern=$2
    shift 2
    up_meshvpn "$want" up --config "$LAB_DIR/client.conf" "$@" && grep -qE -- "$pattern" "$LAB_DIR/out"
}

up_as_nobody() {
    UP_ENV="setpriv --reuid=65534 --regid=65534 --clear-groups" up_meshvpn "$@"
}

up_path_has() {
    mesh_status >"$LAB_DIR/status.json"
    [ "$(mesh_path | wc -l)" = "$1" ]
}

up_json_is_good() {
    "$LAB_PYTHON" -c 'import json, sys
lines = [json.loads(line) for line in sys.stdin]
stages = [l for l in lines if l["event"] == "stage" and l["state"] == "done"]
print(lines)
assert all(l["schema"] == "meshvpn.up/1" for l in lines)
assert [l["number"] for l in stages] == list(range(1, stages[0]["of"] + 1))
end = lines[-1]
assert end["event"] == "end" and end["exit_status"] == 0
assert all(line["is_good"] for line in end["proof"].values())' <"$LAB_DIR/out"
}

# up_crash: worker and helper, as by a kill -9 of both
up_crash() {
    local pid
    pid=$(lab_in client sh -c 'ps -eo pid,args' | awk -v conf="$LAB_DIR/client.conf" '$2 ~ /meshvpn-client$/ && index($0, conf) { print $1 }')
    # shellcheck disable=SC2086 # process ids are words
    kill -KILL $pid
    sleep 0.3
}

# up_page COLD|WARM: milliseconds from meshvpn up to the end of a page
up_page() {
    local from
    [ "$1" = cold ] && mesh_forget && mkdir -p "$LAB_DIR/run/client"
    from=$(date +%s%N)
    up_meshvpn 0 up --config "$LAB_DIR/client.conf" --quiet >&2 || return 1
    mesh_curl -o /dev/null "http://$(lab_addr4 web)/" || return 1
    echo $((($(date +%s%N) - from) / 1000000))
    up_meshvpn 0 down --config "$LAB_DIR/client.conf" >&2
}

# up_times [--times N]: both, with slack: the figures depend on what else runs here
up_times() {
    local n=1 kind ms i
    [ "${1:-}" = --times ] && n=$2
    for kind in cold warm; do
        ms=
        for i in $(seq "$n"); do
            ms="$ms $(up_page "$kind" 2>>"$LAB_DIR/log/times.log")"
        done
        lab_say "up to a page, $kind:$ms ms"
        # shellcheck disable=SC2086 # figures are words
        lab_check "page_in_time_$kind" up_is_in_time "$kind" $ms
    done
}

up_is_in_time() {
    local limit=10000 ms
    [ "$1" = warm ] && limit=4000
    shift
    for ms in "$@"; do
        [ "$ms" -lt "$limit" ] || return 1
    done
    [ $# -gt 0 ]
}

# up_by_systemd: no systemd runs here. In a mount namespace it looks as if one did: its directory, the unit, and commands
# of its names that do as it would. UP_UNIT_FAILS: the unit does not start.
up_by_systemd() {
    local dir=$LAB_DIR/systemd
    mkdir -p "$dir/bin" "$dir/etc" "$dir/work"
    cat >"$dir/bin/systemctl" <<SCRIPT
#!/bin/sh
echo "systemctl \$*" >>"$dir/calls"
[ "\$*" = "start meshvpn.service" ] && [ -z "${UP_UNIT_FAILS:-}" ] || exit 1
setsid "$MESH_PROGRAMS/meshvpn-client" --config /etc/meshvpn/client.conf </dev/null >>"$dir/log" 2>&1 &
for i in \$(seq 100); do [ -S "$LAB_DIR/sock/client" ] && exit 0; sleep 0.05; done
exit 1
SCRIPT
    printf '#!/bin/sh\necho a word of the journal\n' >"$dir/bin/journalctl"
    chmod 755 "$dir/bin/systemctl" "$dir/bin/journalctl"
    : >"$dir/calls"
    cat >"$dir/do" <<SCRIPT
mount -t tmpfs none /run && mkdir -p /run/systemd/system && : >/run/systemd/system/meshvpn.service &&
    mount -t tmpfs none "$dir/work" && mkdir "$dir/work/upper" "$dir/work/work" &&
    mount -t overlay -o "lowerdir=/etc,upperdir=$dir/work/upper,workdir=$dir/work/work" overlay /etc &&
    mkdir -p /etc/meshvpn && cp "$LAB_DIR/client.conf" /etc/meshvpn/client.conf || exit 99
"$MESH_PROGRAMS/meshvpn" up --hops 2 --timeout 20 || exit
"$MESH_PROGRAMS/meshvpn" status --control "$LAB_DIR/sock/client" --json >"$LAB_DIR/status.json"
"$MESH_PROGRAMS/meshvpn" down
SCRIPT
    lab_in client env PATH="$dir/bin:$PATH" unshare -m --propagation private sh "$dir/do" >"$LAB_DIR/out" 2>&1 </dev/null
    local got=$?
    cat "$LAB_DIR/out" "$dir/calls" "$dir/log"
    [ "$got" = 0 ] && [ "$(cat "$dir/calls")" = "systemctl start meshvpn.service" ] && [ "$(mesh_path | wc -l)" = 2 ] &&
        grep -q 'as it was before' "$LAB_DIR/out"
}
