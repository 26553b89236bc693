#!/bin/bash
# MeshVPN inside another program: examples/embed.c, compiled against what an installation has, runs three clients in one
# process, each with its TUN device, mark and exit, the third in a network of its own. One "ok NAME" or "FAIL NAME" line
# per check for ./run test. Topology: lab.sh, and
#
#     client (embed, its sockets) -- eth0        appa: tunA, 10.8.0.2    appb: tunB, 10.8.0.2    appc: tunC, 10.8.0.2
#     network "net": alder birch cedar maple oak          network "other": hazel pine rowan, for appc
#
# The devices are moved into namespaces of their own: they have the same addresses, as on two phones.
set -u
. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/mesh.sh"

EMBED_PID=
EMBED_MARK_A=0x4d57
EMBED_MARK_B=0x4d58
EMBED_MARK_C=0x4d59
EMBED_NET="alder birch cedar maple oak"
EMBED_OTHER="hazel pine rowan"
# shellcheck disable=SC2034 # read by lab.sh
LAB_RELAYS="$EMBED_NET $EMBED_OTHER" LAB_EXITS="maple oak rowan"

# compile NAME COMMAND...: the example, as a stranger would; pkg-config answers for the lab's installation
compile() {
    local name=$1
    shift
    # shellcheck disable=SC2046 # flags are words
    "$@" -Wall -Wextra -pedantic -Werror "$LAB_ROOT/examples/embed.c" $(pkg --cflags) -o "$LAB_DIR/$name" "${LIBS[@]}"
}

pkg() {
    PKG_CONFIG_SYSROOT_DIR=$LAB_DIR/installed PKG_CONFIG_LIBDIR=$LAB_DIR/installed$EMBED_LIBDIR/pkgconfig pkg-config "$@" libmeshvpn
}

installs() {
    local built
    DESTDIR=$LAB_DIR/installed meson install -C "$LAB_BUILD" --no-rebuild --quiet || return 1
    built=$(cd "$LAB_DIR/installed" && find . -name libmeshvpn.pc)
    EMBED_LIBDIR=${built#.}
    EMBED_LIBDIR=${EMBED_LIBDIR%/pkgconfig/libmeshvpn.pc}
    [ -n "$EMBED_LIBDIR" ]
}

compiles() {
    local result=0
    read -r -a LIBS <<<"$(pkg --libs)"
    compile embed cc -std=c99 || result=1
    compile embed.c++ c++ -x c++ || result=1
    read -r -a LIBS <<<"-L$LAB_DIR/installed$EMBED_LIBDIR -Wl,-Bstatic -lmeshvpn -Wl,-Bdynamic $(pkg --static --libs | sed 's/-lmeshvpn//')"
    compile embed.static cc -std=c99 || result=1
    # Nothing but meshvpn_* of the one, and the other needs no libmeshvpn.so.
    readelf -d "$LAB_DIR/embed" | grep -q 'NEEDED.*libmeshvpn.so.0' || result=1
    readelf -d "$LAB_DIR/embed.static" | grep 'NEEDED.*libmeshvpn' && result=1
    return "$result"
}

# addresses 4|6: of the other network's nodes
addresses() {
    local node
    for node in $EMBED_OTHER; do
        echo "$("lab_addr$1" "$node"),"
    done
}

# What leaves the client's host, by mark, and each to its own network; neighbour discovery is the kernel's.
count_marks() {
    lab_in client nft -f - <<RULES
table inet embed {
    counter a { }
    counter b { }
    counter c { }
    counter other { }
    chain out {
        type filter hook output priority 0;
        oifname != eth0 accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld2-listener-report } accept
        meta mark $EMBED_MARK_C ip daddr { $(addresses 4) } counter name c accept
        meta mark $EMBED_MARK_C ip6 daddr { $(addresses 6) } counter name c accept
        ip daddr { $(addresses 4) } counter name other drop
        ip6 daddr { $(addresses 6) } counter name other drop
        meta mark $EMBED_MARK_A counter name a accept
        meta mark $EMBED_MARK_B counter name b accept
        counter name other drop
    }
}
RULES
}

packets() {
    lab_in client nft list counter inet embed "$1" | awk '/packets/ { print $2 }'
}

# move DEVICE NODE: to a namespace where it is the way to everything
move() {
    lab_node "$2"
    lab_in client ip link set "$1" netns "$(lab_ns "$2")" &&
        lab_in "$2" ip -batch - <<BATCH
addr add 10.8.0.2/24 dev $1
addr add fd6d:7670:6e00::2/64 dev $1 nodad
link set $1 mtu 1420 up
route add default dev $1
route add ::/0 dev $1
BATCH
}

embed_start() { # PROGRAM
    mkdir "$LAB_DIR/state"
    lab_spawn client embed "$LAB_DIR/$1" -s "$LAB_DIR/state" "$LAB_DIR/net/network.conf" \
        "tunA,$EMBED_MARK_A,$(lab_country maple)" "tunB,$EMBED_MARK_B,$(lab_country oak)" \
        "$LAB_DIR/other/network.conf" "tunC,$EMBED_MARK_C"
    EMBED_PID=$LAB_PID
    local tries=100
    until lab_in client ip link show tunC >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || mesh_fail "embed does not start" embed
        sleep 0.05
    done
}

says() { # TIMES TEXT
    local tries=200
    until [ "$(grep -c -- "$2" "$LAB_DIR/log/embed.log")" -ge "$1" ]; do
        tries=$((tries - 1))
        if [ "$tries" -le 0 ]; then
            cat "$LAB_DIR/log/embed.log"
            return 1
        fi
        sleep 0.05
    done
}

fetch() { # NODE URL
    lab_in "$1" curl -sS -g --connect-timeout 5 --max-time 20 "$2"
}

is() {
    echo "got '$1', expected '$2'"
    [ "$1" = "$2" ]
}

# app EXIT: both families
page_by() {
    is "$(fetch "$1" "http://$(lab_addr4 web)/ip")" "$(lab_addr4 "$2")" &&
        is "$(fetch "$1" "http://[$(lab_addr6 web)]/ip")" "$(lab_addr6 "$2")"
}

pages() {
    page_by appa maple && page_by appb oak && page_by appc rowan
}

# At the same time.
downloads() {
    local app result=0 pids=()
    for app in appa appb appc; do
        fetch "$app" "http://$(lab_addr4 web)/file/5" | sha256sum >"$LAB_DIR/$app.sum" &
        pids+=($!)
    done
    wait "${pids[@]}"
    for app in appa appb appc; do
        is "$(cut -d' ' -f1 "$LAB_DIR/$app.sum")" "$(lab_sha256 5)" || result=1
    done
    return "$result"
}

only_protected_sockets() {
    echo "packets by mark: $(packets a), $(packets b), $(packets c); without, or to another's network: $(packets other)"
    [ "$(packets a)" -gt 0 ] && [ "$(packets b)" -gt 0 ] && [ "$(packets c)" -gt 0 ] && [ "$(packets other)" = 0 ]
}

remember_apart() {
    local device
    ls -l "$LAB_DIR"/state/*
    for device in tunA tunB tunC; do
        [ -s "$LAB_DIR/state/$device/guards" ] || return 1
    done
    ! cmp "$LAB_DIR/state/tunA/guards" "$LAB_DIR/state/tunC/guards"
}

shows_status() {
    sleep 1 # it is of the last second
    kill -USR1 "$EMBED_PID"
    says 1 "tunA state 1 .* maple/$(lab_country maple), [1-9][0-9]* bytes up" && says 1 "tunB state 1 .* oak/$(lab_country oak), [1-9]" &&
        says 1 "tunC state 1 .* rowan/$(lab_country rowan), [1-9]"
}

# With one exit each there is no other: the circuit is another, and works.
new_identity() {
    kill -USR2 "$EMBED_PID"
    sleep 0.3
    pages
}

ends_within_a_second() {
    local from to
    from=$(date +%s%N)
    kill -TERM "$EMBED_PID"
    wait "$EMBED_PID"
    local status=$?
    to=$(date +%s%N)
    echo "status $status after $(((to - from) / 1000000)) ms"
    [ "$status" = 0 ] && [ $(((to - from) / 1000000)) -lt 1000 ] && says 1 "tunA stopped" && says 1 "tunB stopped" &&
        says 1 "tunC stopped"
}

lab_begin
lab_check "embed: installs" installs
lab_check "embed: the example compiles as C99 and C++, shared and static" compiles
lab_internet
lab_services 5
LAB_RELAYS=$EMBED_NET mesh_create listed
LAB_RELAYS=$EMBED_NET mesh_relays_start
LAB_RELAYS=$EMBED_OTHER MESH_NET=other mesh_create listed
LAB_RELAYS=$EMBED_OTHER MESH_NET=other mesh_relays_start
count_marks

embed_start embed.static
move tunA appa
move tunB appb
move tunC appc
lab_check "embed: three clients of one process connect" eval 'says 1 "tunA connected" && says 1 "tunB connected" && says 1 "tunC connected"'
lab_check "embed: each has its exit, and the third its network" pages
lab_check "embed: downloads at the same time" downloads
lab_check "embed: status" shows_status
lab_check "embed: another identity" new_identity
lab_check "embed: nothing but protected sockets, each to its network" only_protected_sockets
lab_check "embed: ends within a second" ends_within_a_second
lab_check "embed: what they remember is apart" remember_apart
exit $((LAB_FAILED > 0))
