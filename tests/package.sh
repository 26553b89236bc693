#!/bin/bash
# The Debian packages in a minimal Debian: installed, used, upgraded, purged; nothing of them is left. Prints "ok NAME" or
# "FAIL NAME".
#
#     package.sh DIRECTORY      where the packages are; the minimal system is kept beside them as root.tar
#
#     the minimal Debian: eth0 11.9.0.2 ---- 11.9.0.1, wan: the nodes, from the same root ---- web 11.8.0.1: page, DNS
#
# Needs root, mmdebstrap and Debian's mirror; once the minimal system is there, nothing is fetched. No systemd runs in it:
# services are started as their units say by packaging/units_test.py alone; here a person's commands start what they start, in
# namespaces of their own.
set -u
HERE=$(cd "$(dirname "$0")" && pwd)
DEBS=$(cd "$1" && pwd) || exit 1
RELEASE=bookworm
PYTHON=/usr/bin/python3

# ---- a minimal Debian with what the packages need, made once; everything else in namespaces of its own ----

needed=$({
    # The last are a person's, and a stranger's who has a program to compile.
    printf '%s\n' systemd iproute2 nftables curl gcc g++ libc6-dev pkg-config
    for deb in "$DEBS"/*.deb; do
        dpkg-deb --field "$deb" Depends | tr , '\n' | sed 's/|.*//; s/(.*//; s/ //g' | grep -v meshvpn
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
WAN=/run/netns/wan # in a directory of this mount namespace alone
WEB=/run/netns/web
INSIDE=(chroot "$ROOT" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive)
PIDS=
NODES=

end() {
    local pid
    exec 2>/dev/null # bash tells of each that is killed
    # What a person's commands started in the background, too: all that has this root.
    for pid in $PIDS $NODES $(rooted); do
        kill -KILL "$pid" 2>/dev/null
    done
    umount "$ROOT/dev" "$ROOT/proc" 2>/dev/null
    # Nothing of this machine may be below it when it is removed.
    grep -q " $ROOT/" /proc/self/mountinfo || rm -rf "$WORK"
}
trap end EXIT
trap 'exit 130' INT TERM HUP

# rooted: processes in the minimal system
rooted() {
    local pid
    for pid in /proc/[0-9]*; do
        [ "$(readlink "$pid/root")" != "$ROOT" ] || echo "${pid#/proc/}"
    done
}

# client_pids: of the client and its helper
client_pids() {
    local pid
    for pid in $(rooted); do
        grep -q '^meshvpn-client' "/proc/$pid/comm" && echo "$pid"
    done
}

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

# Where the nodes are.
wan() {
    nsenter --net="$WAN" -- "$@"
}

web() {
    nsenter --net="$WEB" -- "$@"
}

# Everything that an installation could leave: files with owner, mode and content, users, and the network's state. Without
# logs, caches and dpkg's own books.
state() {
    (
        cd "$ROOT" || exit 1
        for what in "-printf %p_%U:%G_%m_%l\\n" "-type f -exec sha256sum {} +"; do
            # shellcheck disable=SC2086 # an expression is words
            find . -xdev \( -path ./debs -o -path ./var/log -o -path ./var/cache -o -path ./var/lib/dpkg -o -path ./var/lib/apt -o -path ./run/systemd -o \
                -path ./tmp -o -path ./root -o -path ./etc/ld.so.cache -o -path './etc/*-' \) -prune -o $what
        done | sort
    )
    inside ip -4 rule
    inside ip -6 rule
    inside ip -4 route show table all
    inside ip -o link
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

start_node() { # LOG PROGRAM ARGUMENT...
    local log=$WORK/$1.log
    shift
    # Its process is the program itself.
    (exec nsenter --net="$WAN" -- "${INSIDE[@]}" "$@") >"$log" 2>&1 &
    NODES="$NODES $!"
}

stop() {
    kill -TERM "$1" && wait "$1"
}

says() { # WORD COMMAND...
    local word=$1
    shift
    inside "$@" | tee /dev/stderr | grep -q -- "$word"
}

mkdir "$ROOT"
tar -x -C "$ROOT" -f "$DEBS/root.tar" --exclude='./dev/*' --exclude='./proc/*' || exit 1
mount -t proc proc "$ROOT/proc"
mount -t tmpfs -o mode=755 tmpfs "$ROOT/dev"
for device in "null 1 3" "zero 1 5" "urandom 1 9" "random 1 8" "tty 5 0"; do
    # shellcheck disable=SC2086 # numbers are words
    set -- $device
    mknod -m 666 "$ROOT/dev/$1" c "$2" "$3"
done
ln -s /proc/self/fd "$ROOT/dev/fd"
mkdir "$ROOT/dev/net"
mknod -m 666 "$ROOT/dev/net/tun" c 10 200
mkdir "$ROOT/debs"
cp "$DEBS"/*.deb "$ROOT/debs"
VERSION=$(dpkg-deb -f "$DEBS"/meshvpn_*.deb Version)

# A computer with one way out, to where everything is; addresses as in the internet, so that no rule is switched off.
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
: >"$WAN"
: >"$WEB"
unshare --net="$WAN" true
unshare --net="$WEB" true
ip link set lo up
wan ip -batch - <<BATCH
link set lo up
link add eth0 type veth peer name eth0 netns $$
addr add 11.9.0.1/24 dev eth0
link set eth0 up
addr add 11.1.0.1/32 dev lo
addr add 11.2.0.1/32 dev lo
addr add 11.3.0.1/32 dev lo
addr add 11.4.0.1/32 dev lo
BATCH
web ip -batch - <<BATCH
link set lo up
link add eth0 type veth peer name web netns wan
addr add 11.8.0.1/24 dev eth0
link set eth0 up
route add default via 11.8.0.254
BATCH
wan ip -batch - <<BATCH
addr add 11.8.0.254/24 dev web
link set web up
route add default via 11.8.0.1
BATCH
wan sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
mkdir "$WORK/www"
(exec nsenter --net="$WEB" -- "$PYTHON" "$HERE/netns/lab_tool.py" web --root "$WORK/www" --log "$WORK/web.seen") >"$WORK/web.log" 2>&1 &
PIDS="$PIDS $!"
(exec nsenter --net="$WEB" -- dnsmasq --no-daemon --conf-file=/dev/null --no-resolv --no-hosts --user=root --pid-file= --listen-address=11.8.0.1 \
    --address="/#/11.8.0.1") >"$WORK/dns.log" 2>&1 &
PIDS="$PIDS $!"
ip -batch - <<BATCH
addr add 11.9.0.2/24 dev eth0
link set eth0 up
route add default via 11.9.0.1
BATCH

# ---- installed, as a person does it ----

packages >"$WORK/packages.before"
state >"$WORK/before"
check installs inside sh -c 'cd /debs && apt-get install --yes --no-install-recommends ./meshvpn_*.deb ./meshvpn-relay_*.deb'
check user says meshvpn getent passwd meshvpn
for program in meshvpn meshvpn-client meshvpn-relay meshvpn-exit-node meshvpn-dht-bootstrap meshvpn-discovery meshvpn-bootstrap; do
    check "$program --version" says "$VERSION" "$program" --version
    check "$program --help" says "Usage\|usage" "$program" --help
done
check units_are_there inside sh -c 'cd /lib/systemd/system && systemd-analyze verify meshvpn*.service'
check not_enabled inside sh -c '! find /etc/systemd -name "meshvpn*" ! -name meshvpn-lockdown.service | grep .'
check lockdown_enabled inside find /etc/systemd/system/sysinit.target.wants/meshvpn-lockdown.service

# ---- the library, as somebody with a program to compile ----

check library_installs inside sh -c 'cd /debs && apt-get install --yes --no-install-recommends ./libmeshvpn*.deb'
check example_compiles inside sh -c 'cd /tmp && cp /usr/share/doc/libmeshvpn-dev/examples/embed.c . &&
    gcc -std=c99 -Wall -pedantic -Werror embed.c $(pkg-config --cflags --libs libmeshvpn) -o embed &&
    g++ -x c++ -Wall -Werror embed.c $(pkg-config --cflags --libs libmeshvpn) -o embed.c++'
check example_runs eval 'inside /tmp/embed 2>&1 | grep "libmeshvpn $VERSION" && inside /tmp/embed.c++ 2>&1 | grep "libmeshvpn $VERSION"'

# ---- used: nodes, an invitation, and a page through them ----

check makes_a_network inside sh -c 'cd /root && meshvpn-bootstrap init net --name package &&
    meshvpn-bootstrap add-node net entry --address 11.1.0.1:443 --bootstrap &&
    meshvpn-bootstrap add-node net alder --address 11.2.0.1:443 --country SE --provider a --listed &&
    meshvpn-bootstrap add-node net birch --address 11.3.0.1:443 --country RO --provider b --listed &&
    meshvpn-bootstrap add-node net maple --address 11.4.0.1:443 --country IS --provider c --listed --exit'
# One host for all: each listens at its own address alone.
number=1
for node in entry alder birch maple; do
    inside sh -c "cd /root/net/nodes/$node && sed -i -e 's/^listen = .*/listen = {\"11.$number.0.1:443\"}/' *.conf && for conf in relay exit bootstrap; do
        [ ! -e \$conf.conf ] || printf 'state_dir = \"/srv/$node\"\nrun_dir = \"/srv/$node\"\ncontrol_socket = \"/srv/$node/control\"\n' >>\$conf.conf; done
        sed -i '0,/^control_socket/{/^control_socket/d}' *.conf; mkdir -p /srv/$node"
    number=$((number + 1))
done
inside sh -c 'echo "dns_upstream = {\"11.8.0.1:53\"}" >>/root/net/nodes/maple/exit.conf'
start_node entry meshvpn-dht-bootstrap --config /root/net/nodes/entry/bootstrap.conf
start_node alder meshvpn-relay --config /root/net/nodes/alder/relay.conf
start_node birch meshvpn-relay --config /root/net/nodes/birch/relay.conf
start_node maple meshvpn-exit-node --config /root/net/nodes/maple/exit.conf
for node in entry alder birch maple; do
    check "$node runs" runs 60 says '"' meshvpn status --json --control "/srv/$node/control"
done
check invites inside sh -c 'meshvpn-bootstrap invite /root/net --no-qr >/root/link'
check page_without says 11.9.0.2 curl -sS --max-time 5 http://11.8.0.1/ip

# All that a person does on a fresh machine.
check joins inside sh -c 'meshvpn join "$(cat /root/link)"'
check up inside meshvpn up
check status says connected meshvpn status
check client_is_meshvpn eval 'client_pids | sed "s,.*,/proc/&/status," | xargs grep "^Uid:.$(inside id -u meshvpn)\b"'
check page_by_name says 11.8.0.254 curl -sS --max-time 10 http://page.example/ip
check down inside meshvpn down
check page_after says 11.9.0.2 curl -sS --max-time 5 http://11.8.0.1/ip

# ---- an upgrade keeps what a person set ----

newer() { # the same packages with a higher version
    local deb
    mkdir "$WORK/newer" "$ROOT/debs/newer"
    for deb in "$DEBS"/*.deb; do
        rm -rf "$WORK/newer/deb"
        dpkg-deb -R "$deb" "$WORK/newer/deb" &&
            sed -i "s/^Version: .*/Version: $VERSION+1/; s/(= $VERSION)/(= $VERSION+1)/" "$WORK/newer/deb/DEBIAN/control" &&
            dpkg-deb --root-owner-group -Znone -b "$WORK/newer/deb" "$ROOT/debs/newer/$(basename "$deb")" || return 1
    done
}
inside sh -c 'echo "hops = 2" >>/etc/meshvpn/client.conf; cd /etc/meshvpn && sha256sum network.conf client.conf >/root/settings; find /var/lib/meshvpn >>/root/state'
check upgrades eval 'newer && inside sh -c "cd /debs/newer && apt-get install --yes --no-install-recommends ./*.deb"'
check upgrade_is_newer eval "inside dpkg-query -W -f '\${Version}\n' meshvpn meshvpn-relay libmeshvpn0 libmeshvpn-dev | grep -c '^$VERSION+1\$' | grep -x 4"
check upgrade_keeps_settings inside sh -c 'cd /etc/meshvpn && sha256sum -c /root/settings && find /var/lib/meshvpn | diff - /root/state'
check up_after_an_upgrade inside meshvpn up

# ---- left in haste: the client and its helper are killed, their rules stay ----

check rules_are_set says '^32001:' ip rule
# shellcheck disable=SC2046 # process ids are words
kill -KILL $(client_pids)
sleep 0.5
check rules_stay_after_a_kill says '^32001:' ip rule
for pid in $NODES; do
    stop "$pid"
done 2>/dev/null
NODES=

# ---- a node as meshvpn-bootstrap deploy leaves it ----

inside sh -c 'cd /root/net/nodes/alder && cp ./*.key ./*.cert relay.conf /etc/meshvpn/ && cp meshvpn-relay.service /etc/systemd/system/ &&
    ln -s /etc/systemd/system/meshvpn-relay.service /etc/systemd/system/multi-user.target.wants/'

# ---- purged ----

check removes inside apt-get remove --yes meshvpn-relay meshvpn libmeshvpn-dev libmeshvpn0
check rules_are_gone eval '! says 32001: ip -4 rule && ! says 32001: ip -6 rule && ! says meshvpn nft list ruleset'
check page_after_removal says 11.9.0.2 curl -sS --max-time 5 http://11.8.0.1/ip
check remove_keeps_settings test -e "$ROOT/etc/meshvpn/network.conf"
check purges inside apt-get purge --yes meshvpn-relay meshvpn
inside rm -rf /srv/entry /srv/alder /srv/birch /srv/maple
state >"$WORK/after"
packages >"$WORK/packages.after"
check nothing_is_left diff "$WORK/before" "$WORK/after"
check no_package_is_left diff "$WORK/packages.before" "$WORK/packages.after"
check nobody_is_left eval '[ -z "$(rooted)" ]'
exit $((FAILED > 0))
