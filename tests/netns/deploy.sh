#!/bin/bash
# meshvpn-bootstrap deploy against a real sshd: a "server" that is a directory with a small system in it,
# entered by chroot, behind an sshd with keys of its own in a namespace. Prints "ok NAME" or "FAIL NAME".
#
#     deploy.sh            MVPN_BUILD names the build directory
#
#     meshvpn-bootstrap -> tar | ssh --- lo of the namespace --- sshd -> door (logs, chroot) -> sh
#
# Nothing of this machine is changed: what the installation does, it does in the directory.
set -u

if [ -z "${MVPN_DEPLOY_INSIDE:-}" ]; then
    MVPN_DEPLOY_INSIDE=1 exec unshare --net "$0" "$@"
fi

build=${MVPN_BUILD:-$(cd "$(dirname "$0")/../.." && pwd)/build/release}
bin=$build/src/bin
dir=$(mktemp -d "${TMPDIR:-/tmp}/meshvpn-deploy.XXXXXX") || exit 1
host=$dir/host
net=$dir/net
port=2222
sshd_pid=
relay_pid=
made_run=
failed=0

clean() {
    for pid in $relay_pid $sshd_pid; do
        kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
    done
    rm -rf "$dir"
    [ -z "$made_run" ] || rmdir /run/sshd 2>/dev/null
}
trap clean EXIT
trap 'exit 130' INT TERM HUP

# check NAME COMMAND...
check() {
    local name=$1
    shift
    if "$@"; then
        echo "ok deploy: $name"
    else
        echo "FAIL deploy: $name"
        sed 's/^/    /' "$dir/out" >&2
        failed=1
    fi
}

# ---- the server: a small system in a directory ----

put_program() {
    local from to library
    from=$(realpath "$(command -v "$1")") || exit 1
    to=$host/${2:-usr/bin/$(basename "$1")}
    mkdir -p "$(dirname "$to")"
    cp "$from" "$to"
    ldd "$from" 2>/dev/null | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$host$(dirname "$library")"
        [ -e "$host$library" ] || cp -L "$library" "$host$library"
    done
}

make_host() {
    local program
    mkdir -p "$host"/{etc/systemd/system,run,tmp,dev,proc,usr/bin,usr/sbin,var/lib,root}
    for program in sh tar mktemp id cmp cp chmod chown mv rm mkdir cat uname useradd; do
        put_program "$program"
    done
    ln -s usr/bin "$host/bin"
    mkdir -p "$host/usr/local"
    # The libraries of the programs: on a server their packages bring them.
    put_program "$bin/meshvpn-relay" root/meshvpn-relay
    rm "$host/root/meshvpn-relay"
    : >"$host/dev/null"
    printf 'root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$host/etc/passwd"
    printf 'root:x:0:\nnobody:x:65534:\n' >"$host/etc/group"
    printf 'root:*:1::::::\n' >"$host/etc/shadow"
    printf 'root:*::\n' >"$host/etc/gshadow"
    : >"$host/etc/login.defs"
}

# Who comes through the door is in the server; what was asked is noted. $dir/as, $dir/cut: a user
# without rights, a line that breaks.
make_door() {
    cat >"$dir/door" <<DOOR
#!/bin/sh
echo "\$SSH_ORIGINAL_COMMAND" >>"$dir/asked"
export PATH=/usr/local/sbin:/usr/sbin:/usr/bin
user=\$(cat "$dir/as" 2>/dev/null || echo 0)
if [ -e "$dir/cut" ]; then
    head -c 20000 | /usr/sbin/chroot --userspec="\$user:\$user" "$host" /bin/sh -c "\$SSH_ORIGINAL_COMMAND"
else
    exec /usr/sbin/chroot --userspec="\$user:\$user" "$host" /bin/sh -c "\$SSH_ORIGINAL_COMMAND"
fi
DOOR
    chmod 755 "$dir/door"
}

start_sshd() {
    if [ ! -d /run/sshd ]; then
        mkdir -p /run/sshd && made_run=1
    fi
    ip link set lo up
    ssh-keygen -q -t ed25519 -N '' -f "$dir/host_key"
    ssh-keygen -q -t ed25519 -N '' -f "$dir/user_key"
    ssh-keygen -q -t ed25519 -N '' -f "$dir/other_key"
    cp "$dir/user_key.pub" "$dir/authorized"
    echo "[127.0.0.1]:$port $(cut -d ' ' -f 1,2 "$dir/host_key.pub")" >"$dir/known"
    cat >"$dir/sshd.conf" <<CONF
Port $port
ListenAddress 127.0.0.1
HostKey $dir/host_key
AuthorizedKeysFile $dir/authorized
ForceCommand $dir/door
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
CONF
    /usr/sbin/sshd -D -e -f "$dir/sshd.conf" 2>"$dir/sshd.log" &
    sshd_pid=$!
    for _ in $(seq 50); do
        grep -q 'Server listening' "$dir/sshd.log" && return
        sleep 0.1
    done
    cat "$dir/sshd.log" >&2
    echo "FAIL deploy: sshd does not start"
    exit 1
}

# deploy NODE [OPTION...]: status in $status, what it said in $dir/out
deploy() {
    local node=$1 key=${DEPLOY_KEY:-user_key} to=${DEPLOY_PORT:-$port}
    shift
    status=0
    timeout 20 "$bin/meshvpn-bootstrap" deploy "$net" "$node" root@127.0.0.1 \
        --ssh-option "Port=$to" --ssh-option "IdentityFile=$dir/$key" --ssh-option IdentitiesOnly=yes \
        --ssh-option "UserKnownHostsFile=$dir/known" --ssh-option GlobalKnownHostsFile=/dev/null \
        --ssh-option StrictHostKeyChecking=yes --ssh-option BatchMode=yes "$@" >"$dir/out" 2>&1 || status=$?
}

says() {
    [ "$status" = "$1" ] && grep -qF -- "$2" "$dir/out"
}

# The server's files with their modes, owners, contents and places on the disk.
server_state() {
    (cd "$host" && find etc usr/local -type f -printf '%p %m %u:%g %i ' -exec cksum {} \;)
}

same_as_before() {
    [ "$before" = "$(server_state)" ] && [ -z "$(find "$host/etc" -name '.meshvpn-deploy*')" ]
}

holds_node() {
    local file
    for file in identity.key link.key onion.key link.cert membership.cert network.conf relay.conf; do
        cmp -s "$net/nodes/$1/$file" "$host/etc/meshvpn/$file" || return 1
        [ "$(stat -c %a "$host/etc/meshvpn/$file")" = 600 ] || return 1
    done
    [ "$(stat -c %a "$host/etc/meshvpn")" = 750 ]
}

# No line of a key file in what was asked, logged or left behind.
leaked_nothing() {
    local file
    for file in "$net"/nodes/*/*.key; do
        cut -d ' ' -f 2 "$file"
    done >"$dir/secrets"
    ! grep -qFf "$dir/secrets" "$dir/asked" "$dir/sshd.log" "$dir/out" &&
        [ -z "$(find "$host/tmp" "$host/root" -type f)" ] &&
        [ -z "$(find "$host/etc" -name '.meshvpn-deploy*')" ]
}

runs() {
    mkdir -p "$host/run/meshvpn"
    /usr/sbin/chroot "$host" /usr/local/sbin/meshvpn-relay --config /etc/meshvpn/relay.conf >"$dir/out" 2>&1 &
    relay_pid=$!
    for _ in $(seq 50); do
        [ -S "$host/run/meshvpn/alder.sock" ] && break
        sleep 0.1
    done
    "$bin/meshvpn" status --control "$host/run/meshvpn/alder.sock" >>"$dir/out" 2>&1
    local got=$?
    kill "$relay_pid" && wait "$relay_pid" 2>/dev/null
    relay_pid=
    return "$got"
}

# systemd as far as deploy sees it: notes what it is asked.
start_systemd() {
    mkdir -p "$host/run/systemd/system"
    cat >"$host/usr/bin/systemctl" <<'SYSTEMCTL'
#!/bin/sh
echo "$*" >>/var/lib/systemctl
case $1 in
is-active) [ -e /var/lib/active ] ;;
restart) [ ! -e /var/lib/broken ] && : >/var/lib/active ;;
esac
SYSTEMCTL
    printf '#!/bin/sh\necho "no such device mvpn"\n' >"$host/usr/bin/journalctl"
    chmod 755 "$host/usr/bin/systemctl" "$host/usr/bin/journalctl"
}

asked_systemd() {
    [ "$(cat "$host/var/lib/systemctl" 2>/dev/null)" = "$1" ]
}

owned_by_meshvpn() {
    local uid
    uid=$(sed -n 's/^meshvpn:x:\([0-9]*\):.*/\1/p' "$host/etc/passwd")
    [ -n "$uid" ] && [ "$(stat -c %u "$host/etc/meshvpn/link.key" "$host/etc/meshvpn" | sort -u)" = "$uid" ] &&
        [ "$(stat -c '%a %u' "$host/etc/systemd/system/meshvpn-relay.service")" = "644 0" ]
}

make_host
make_door
start_sshd
"$bin/meshvpn-bootstrap" init "$net" --allow-private >/dev/null &&
    "$bin/meshvpn-bootstrap" add-node "$net" alder --address 10.1.0.1:4433 >/dev/null &&
    "$bin/meshvpn-bootstrap" add-node "$net" birch --address 10.2.0.1:4433 >/dev/null || exit 1
: >"$dir/out"

before=$(server_state)
DEPLOY_KEY=other_key deploy alder
check "a key that is not let in" says 1 "ssh could not reach root@127.0.0.1 or was not let in; nothing was changed"
DEPLOY_PORT=1 deploy alder
check "no sshd there" says 1 "ssh could not reach root@127.0.0.1"
echo 65534 >"$dir/as"
deploy alder
check "a user without rights" says 1 "the installation on root@127.0.0.1 failed"
rm "$dir/as"
: >"$dir/cut"
deploy alder
check "a broken line" says 1 "the files did not arrive whole; nothing was changed"
rm "$dir/cut"
printf '#!/bin/sh\necho "Illegal instruction" >&2\nexit 1\n' >"$dir/meshvpn-relay"
chmod 755 "$dir/meshvpn-relay"
deploy alder --program "$dir/meshvpn-relay"
check "a program that does not run there" says 1 "meshvpn-relay --check failed here; nothing was changed"
deploy alder --installed
check "a program that is not there" says 1 "meshvpn-relay is not installed here"
cp "$net/nodes/alder/relay.conf" "$dir/relay.conf"
echo 'hosp = 3' >>"$net/nodes/alder/relay.conf"
deploy alder
check "a configuration that is refused there" says 1 "unknown key 'hosp'"
cp "$dir/relay.conf" "$net/nodes/alder/relay.conf"
check "after what failed the server is as before" same_as_before

deploy alder
check "a node is installed" says 0 "Node alder is on root@127.0.0.1"
check "how to start it is said" says 0 "/usr/local/sbin/meshvpn-relay --config /etc/meshvpn/relay.conf"
check "its files and modes" holds_node alder
check "keys are nowhere else" leaked_nothing
check "it runs there" runs
before=$(server_state)
deploy alder
check "again: nothing is changed" same_as_before

# What is newer on the server stays, what is newer here goes there.
sed 's/^\(meshvpn-onion-1 .\{8\}\)./\1A/' "$host/etc/meshvpn/onion.key" >"$dir/onion" && cat "$dir/onion" >"$host/etc/meshvpn/onion.key"
"$bin/meshvpn-bootstrap" revoke "$net" birch >/dev/null && "$bin/meshvpn-bootstrap" add-node "$net" cedar --address 10.3.0.1:4433 >/dev/null || exit 1
deploy alder --installed
check "a new network file arrives" cmp -s "$net/network.conf" "$host/etc/meshvpn/network.conf"
check "the server's onion key stays" cmp -s "$dir/onion" "$host/etc/meshvpn/onion.key"
before=$(server_state)
deploy cedar
check "another node is not written over" says 1 "is another node already"
check "and nothing was changed" same_as_before
deploy cedar --force
check "unless it is forced" holds_node cedar

start_systemd
deploy cedar
check "with systemd it is started" says 0 "meshvpn-relay.service runs"
check "enabled, and started once" asked_systemd "daemon-reload
enable --quiet meshvpn-relay.service
restart meshvpn-relay.service"
check "for a user of its own" owned_by_meshvpn
rm "$host/var/lib/systemctl"
before=$(server_state)
deploy cedar
check "again: it runs on" says 0 "nothing to change; meshvpn-relay.service runs"
check "and nothing was changed again" same_as_before
: >"$host/var/lib/broken"
rm "$host/var/lib/active"
deploy cedar
check "a service that does not start" says 1 "meshvpn-relay.service did not start; its last words are above"
check "with its last words" says 1 "no such device mvpn"

exit "$failed"
