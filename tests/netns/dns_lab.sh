# shellcheck shell=bash
# The lab of names (dns.sh here and in tests/soak): a client whose host has an /etc of its own, and programs that look
# after its name servers. Sourced after lab.sh, mesh.sh and leak_lab.sh.
#
#     dns_lab_begin; dns_place file; dns_client_start MANAGER; ...; mesh_client_stop; dns_unchanged
#
# /etc and /run are the lab's own, in a mount namespace that a sleeping process holds: nothing here touches the
# machine's. The name server of the client's local network is its neighbour fig, who answers nothing: a question that
# arrives there has leaked.

DNS_TOOL=$LAB_HERE/dns_tool.py
DNS_HOLDER=
DNS_BUS=
DNS_MOCK=
DNS_USER=(setpriv --reuid=12345 --regid=12345 --clear-groups)

dns_lab_begin() {
    leak_lab_begin
    dns_own_etc
}

# dns_own_etc: from here on for clients that start
dns_own_etc() {
    mkdir "$LAB_DIR/own"
    : >"$LAB_DIR/log/holder.log"
    # shellcheck disable=SC2016 # expanded there
    lab_spawn client holder unshare --mount --propagation private sh -c '
        mount -t tmpfs tmpfs "$1" && mkdir -m 755 "$1/upper" "$1/work" && chmod 755 "$1" &&
            mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" /etc &&
            mount -t tmpfs -o mode=755 tmpfs /run && echo ready && exec sleep 86400' sh "$LAB_DIR/own"
    DNS_HOLDER=$LAB_PID
    leak_wait_ready holder
    # Not the machine's, now and whatever happens.
    [ "$(dns_in stat -f -c %T /etc)" = overlayfs ] || lab_die "the client's host has no /etc of its own"
    dns_in sh -c 'rm -f /etc/resolv.conf.meshvpn-* && printf "passwd: files\nhosts: files dns\n" >/etc/nsswitch.conf'
    # shellcheck disable=SC2034 # for mesh.sh
    MESH_CLIENT_ENV="nsenter --mount=/proc/$DNS_HOLDER/ns/mnt --"
}

# dns_in COMMAND...: on the client's host
dns_in() {
    nsenter --net="/run/netns/$(lab_ns client)" --mount="/proc/$DNS_HOLDER/ns/mnt" -- "$@"
}

# dns_sh SCRIPT
dns_sh() {
    dns_in sh -c "$1"
}

# dns_place file|link|none|mount|stub: /etc/resolv.conf before the client comes
dns_place() {
    dns_sh 'umount /etc/resolv.conf 2>/dev/null; rm -f /etc/resolv.conf /etc/resolv.conf.meshvpn-*; mkdir -p /run/other'
    case $1 in
    file) dns_sh "printf 'search lan.example\nnameserver $(lab_addr4 fig)\noptions edns0 trust-ad timeout:1\n' >/etc/resolv.conf
        chmod 640 /etc/resolv.conf && chown 0:12345 /etc/resolv.conf && touch -d '2020-02-02 02:02:02' /etc/resolv.conf" ;;
    link) dns_sh "echo 'nameserver $(lab_addr4 fig)' >/run/other/resolv.conf && ln -s /run/other/resolv.conf /etc/resolv.conf" ;;
    mount) dns_sh "echo 'nameserver $(lab_addr4 fig)' >/run/other/mounted && : >/etc/resolv.conf &&
        mount --bind /run/other/mounted /etc/resolv.conf" ;;
    stub) dns_sh "mkdir -p /run/systemd/resolve && printf 'nameserver 127.0.0.53\noptions edns0 trust-ad\n' \
        >/run/systemd/resolve/stub-resolv.conf && ln -s /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf" ;;
    none) ;;
    esac
    dns_look >"$LAB_DIR/dns.before"
}

# dns_look: whatever may be of us, byte for byte; with the times of what is no mount point
dns_look() {
    dns_sh 'cd /etc && for f in resolv.conf*; do [ -e "$f" ] || [ -L "$f" ] || continue
        stat -c "%n %F %i %a %u:%g %s" "$f"; readlink "$f"; sha256sum "$f"
        findmnt -n /etc/resolv.conf >/dev/null || stat -c %y "$f"; done'
}

dns_unchanged() {
    dns_look | diff "$LAB_DIR/dns.before" -
}

dns_client_start() {
    MESH_DNS=$1
    leak_client_start "${2:-}"
}

# dns_get KEY: of the status, dns
dns_get() {
    mesh_status | mesh_get "dns.$1"
}

# dns_until SECONDS COMMAND...: it becomes true within that
dns_until() {
    local end=$(($(date +%s%N) + $1 * 1000000000))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s%N)" -lt "$end" ] || return 1
        sleep 0.02
    done
}

dns_is_ours() {
    dns_sh "head -n 1 /etc/resolv.conf | grep -q MeshVPN && grep -qx 'nameserver $MESH_GATEWAY4' /etc/resolv.conf"
}

# As any program does, as another user; without a cache.
dns_resolves() {
    [ "$(dns_in "${DNS_USER[@]}" getent ahostsv4 "$LAB_WEB_NAME" | awk 'NR == 1 { print $1 }')" = "$(lab_addr4 web)" ]
}

# dns_pid worker|helper|names: processes of the client
dns_pid() {
    local worker=$MESH_CLIENT_PID helper
    helper=$(cat "/proc/$worker/task/$worker/children")
    helper=${helper%% *}
    case $1 in
    worker) echo "$worker" ;;
    helper) echo "$helper" ;;
    names) tr -d " " <"/proc/$helper/task/$helper/children" ;;
    esac
}

# dns_kill_all: nobody restores anything
dns_kill_all() {
    # shellcheck disable=SC2046 # process ids are words
    kill -KILL $(dns_pid names) $(dns_pid helper) "$MESH_CLIENT_PID"
    mesh_client_stop KILL
}

# ---- systemd-resolved, as python3-dbusmock has it ----

dns_bus_start() {
    dns_sh 'mkdir -p /run/dbus'
    cat >"$LAB_DIR/bus.conf" <<CONF
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>
CONF
    lab_spawn client bus nsenter --mount="/proc/$DNS_HOLDER/ns/mnt" -- \
        dbus-daemon --nofork --nopidfile --config-file="$LAB_DIR/bus.conf"
    DNS_BUS=$LAB_PID
    dns_until 5 dns_in test -S /run/dbus/system_bus_socket || lab_die "dbus-daemon does not start"
}

# dns_mock_start [hang|refuse]
dns_mock_start() {
    lab_spawn client mock nsenter --mount="/proc/$DNS_HOLDER/ns/mnt" -- \
        "$LAB_PYTHON" "$DNS_TOOL" resolved "${1:-serve}" "$LAB_DIR/resolved.json"
    DNS_MOCK=$LAB_PID
    dns_until 5 dns_mock_is_up || lab_die "the mock of systemd-resolved does not start"
}

dns_mock_is_up() {
    dns_in dbus-send --system --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.NameHasOwner \
        string:org.freedesktop.resolve1 | grep -q 'boolean true'
}

dns_mock_stop() {
    lab_stop "$DNS_MOCK" "${1:-TERM}"
}

# dns_mock_get KEY: of what it was last told of the tunnel's link
dns_mock_get() {
    mesh_get "$1" <"$LAB_DIR/resolved.json"
}
