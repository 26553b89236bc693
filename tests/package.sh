#!/bin/bash
# The Debian packages in a minimal Debian: installed, used, purged; nothing of them is left. Prints "ok NAME" or "FAIL NAME".
#
#     package.sh DIRECTORY      where the packages are; the minimal system is kept beside them as root.tar
#
# Needs root, mmdebstrap and Debian's mirror. No systemd runs in there: services are started as their units say only by
# packaging/units_test.py; here the programs are started by hand, in namespaces of their own.
set -u
DEBS=$(cd "$1" && pwd) || exit 1
RELEASE=bookworm

# ---- a minimal Debian with what the packages need, made once; everything else in namespaces of its own ----

needed=$({
    printf '%s\n' systemd iproute2 nftables
    for deb in "$DEBS"/meshvpn*.deb; do
        dpkg-deb --field "$deb" Depends | tr , '\n' | sed 's/|.*//; s/(.*//; s/ //g' | grep -v '^meshvpn'
    done
} | sort -u | paste -s -d ,)
if [ "$(cat "$DEBS/root.list" 2>/dev/null)" != "$needed" ]; then
    mmdebstrap --quiet --variant=minbase --include="$needed" "$RELEASE" "$DEBS/root.new.tar" || exit 1
    mv "$DEBS/root.new.tar" "$DEBS/root.tar"
    echo "$needed" >"$DEBS/root.list"
fi
[ "${2:-}" = apart ] || exec unshare --mount --net "$0" "$DEBS" apart
FAILED=0
WORK=$(mktemp -d "${TMPDIR:-/tmp}/meshvpn-package.XXXXXX") || exit 1
ROOT=$WORK/root
INSIDE=(chroot "$ROOT" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive)
PIDS=

end() {
    local pid
    for pid in $PIDS; do
        kill -KILL "$pid" 2>/dev/null
    done
    umount "$ROOT/dev" "$ROOT/proc" 2>/dev/null
    # Nothing of this machine may be below it when it is removed.
    grep -q " $ROOT/" /proc/self/mountinfo || rm -rf "$WORK"
}
trap end EXIT
trap 'exit 130' INT TERM HUP

check() { # NAME COMMAND...
    local name=$1
    shift
    if "$@" >"$WORK/out" 2>&1; then
        echo "ok package: $name"
    else
        echo "FAIL package: $name"
        tail -n 20 "$WORK/out" >&2
        FAILED=$((FAILED + 1))
    fi
}

inside() {
    "${INSIDE[@]}" "$@"
}

# Everything that an installation could leave: files with owner, mode and content, users, and the network's state. Without
# logs, caches and dpkg's own books.
state() {
    (
        cd "$ROOT" || exit 1
        for what in "-printf %p_%U:%G_%m_%l\\n" "-type f -exec sha256sum {} +"; do
            # shellcheck disable=SC2086 # an expression is words
            find . -xdev \( -path ./debs -o -path ./var/log -o -path ./var/cache -o -path ./var/lib/dpkg -o -path ./var/lib/apt -o -path ./run/systemd -o \
                -path ./etc/ld.so.cache -o -path './etc/*-' \) -prune -o $what
        done | sort
    )
    inside ip -4 rule
    inside ip -6 rule
    inside ip link
    inside nft list ruleset
}

packages() {
    inside dpkg-query -W -f '${Package} ${db:Status-Status}\n'
}

runs() { # TIMES COMMAND...: until it succeeds, four times a second
    local times=$1
    shift
    until "$@"; do
        times=$((times - 1))
        [ "$times" -gt 0 ] || return 1
        sleep 0.25
    done
}

start() { # LOG PROGRAM ARGUMENT...
    local log=$WORK/$1.log
    shift
    # Its process is the program itself.
    (exec "${INSIDE[@]}" "$@") >"$log" 2>&1 &
    LAST=$!
    PIDS="$PIDS $LAST"
}

stop() {
    kill -TERM "$1" && wait "$1"
}

says() { # WORD COMMAND...
    local word=$1
    shift
    inside "$@" | grep -q -- "$word"
}

mkdir "$ROOT"
tar -x -C "$ROOT" -f "$DEBS/root.tar" --exclude='./dev/*' --exclude='./proc/*' || exit 1
ip link set lo up
mount -t proc proc "$ROOT/proc"
mount -t tmpfs -o mode=755 tmpfs "$ROOT/dev"
for device in "null 1 3" "zero 1 5" "urandom 1 9" "random 1 8"; do
    # shellcheck disable=SC2086 # numbers are words
    set -- $device
    mknod -m 666 "$ROOT/dev/$1" c "$2" "$3"
done
mkdir "$ROOT/dev/net"
mknod -m 666 "$ROOT/dev/net/tun" c 10 200
mkdir "$ROOT/debs"
cp "$DEBS"/meshvpn*.deb "$ROOT/debs"

# ---- installed ----

packages >"$WORK/packages.before"
state >"$WORK/before"
check installs inside sh -c 'dpkg --install /debs/*.deb'
check user says meshvpn getent passwd meshvpn
for program in meshvpn meshvpn-client meshvpn-relay meshvpn-exit-node meshvpn-dht-bootstrap meshvpn-discovery meshvpn-bootstrap; do
    check "$program --version" says "$(dpkg-deb -f "$DEBS"/meshvpn_*.deb Version)" "$program" --version
    check "$program --help" says "Usage\|usage" "$program" --help
done
check units_are_there inside sh -c 'cd /lib/systemd/system && systemd-analyze verify meshvpn*.service'
check not_enabled inside sh -c '! find /etc/systemd -name "meshvpn*" ! -name meshvpn-lockdown.service | grep .'
check lockdown_enabled inside find /etc/systemd/system/sysinit.target.wants/meshvpn-lockdown.service

# ---- used: an entry, a relay, an exit and a client that knows them from a link ----

number=1
for node in entry alder birch maple; do
    ip address add "11.$number.0.1/32" dev lo
    number=$((number + 1))
done
check makes_a_network inside sh -c 'cd /root && meshvpn-bootstrap init net --name package &&
    meshvpn-bootstrap add-node net entry --address 11.1.0.1:443 --bootstrap &&
    meshvpn-bootstrap add-node net alder --address 11.2.0.1:443 --country SE --provider a --listed &&
    meshvpn-bootstrap add-node net birch --address 11.3.0.1:443 --country RO --provider b --listed &&
    meshvpn-bootstrap add-node net maple --address 11.4.0.1:443 --country IS --provider c --listed --exit'
# One host for all: each listens at its own address alone.
number=1
for node in entry alder birch maple; do
    inside sh -c "cd /root/net/nodes/$node && sed -i -e 's/^listen = .*/listen = {\"11.$number.0.1:443\"}/' *.conf && for conf in relay exit bootstrap; do
        [ ! -e \$conf.conf ] || printf 'state_dir = \"/srv/$node\"\nrun_dir = \"/srv/$node\"\n' >>\$conf.conf; done
        mkdir -p /srv/$node /run/meshvpn"
    number=$((number + 1))
done
inside sh -c 'echo "dns_upstream = {\"11.1.0.1:53\"}" >>/root/net/nodes/maple/exit.conf'
start entry meshvpn-dht-bootstrap --config /root/net/nodes/entry/bootstrap.conf
start alder meshvpn-relay --config /root/net/nodes/alder/relay.conf
start birch meshvpn-relay --config /root/net/nodes/birch/relay.conf
start maple meshvpn-exit-node --config /root/net/nodes/maple/exit.conf
for node in entry alder birch maple; do
    check "$node runs" runs 60 says '"' meshvpn status --json --control "/run/meshvpn/$node.sock"
done
check joins inside sh -c 'meshvpn-bootstrap invite /root/net --no-qr >/root/link && meshvpn join - </root/link'
inside sh -c 'cp /root/net/network.conf /etc/meshvpn/network.conf && echo "routes = none" >>/etc/meshvpn/client.conf'
start client meshvpn-client --config /etc/meshvpn/client.conf
client=$LAST
check client_connects runs 120 says '"state": *"connected"' meshvpn status --json --control /run/meshvpn/control.sock
check client_is_meshvpn grep -q "^Uid:\s$(inside id -u meshvpn)\s" "/proc/$client/status"
check client_ends stop "$client"

# ---- an upgrade keeps what is there ----

check upgrades inside sh -c 'dpkg --install /debs/*.deb && test -e /etc/meshvpn/network.conf'

# ---- left in haste: the client and its helper are killed, their rules stay ----

inside sed -i /routes/d /etc/meshvpn/client.conf
start client meshvpn-client --config /etc/meshvpn/client.conf
client=$LAST
check rules_are_set runs 60 says '^32001:' ip rule
# shellcheck disable=SC2046 # process ids are words
kill -KILL $(cat "/proc/$client/task/$client/children") "$client"
check rules_stay_after_a_kill says '^32001:' ip rule
for pid in $PIDS; do
    [ "$pid" = "$client" ] || stop "$pid"
done 2>/dev/null
PIDS=

# ---- a node as meshvpn-bootstrap deploy leaves it ----

inside sh -c 'cd /root/net/nodes/alder && cp ./*.key ./*.cert relay.conf /etc/meshvpn/ && cp meshvpn-relay.service /etc/systemd/system/ &&
    ln -s /etc/systemd/system/meshvpn-relay.service /etc/systemd/system/multi-user.target.wants/'

# ---- purged ----

check removes inside dpkg --remove meshvpn-relay meshvpn
check rules_are_gone eval '! says 32001: ip -4 rule && ! says 32001: ip -6 rule'
check remove_keeps_settings test -e "$ROOT/etc/meshvpn/network.conf"
check purges inside dpkg --purge meshvpn-relay meshvpn
inside rm -rf /root/net /root/link /srv/entry /srv/alder /srv/birch /srv/maple
state >"$WORK/after"
packages >"$WORK/packages.after"
check nothing_is_left diff "$WORK/before" "$WORK/after"
check no_package_is_left diff "$WORK/packages.before" "$WORK/packages.after"
exit $((FAILED > 0))
