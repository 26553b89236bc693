#!/bin/bash
# Every command of the guides, as it stands there, by an ordinary user with sudo, on machines as the guides suppose them:
# an operator's own computer, four rented servers, a member's computer. Prints "ok NAME" or "FAIL NAME" for each block.
#
#     docs.sh            MVPN_BUILD names the build directory
#
# A machine is a network namespace of the lab and a mount namespace in which /etc, /usr/local, /var and /home are copies,
# and the programs are installed in /usr/local/bin. Servers have a real sshd. systemctl and apt are stand-ins (no systemd
# runs here): systemctl starts what a unit's ExecStart says; packages are installed by tests/package.sh.
set -u
# shellcheck source=tests/netns/lab.sh
. "$(dirname "$0")/lab.sh"
# shellcheck source=tests/netns/mesh.sh
. "$(dirname "$0")/mesh.sh"

# In this order: there is no member without a network.
GUIDES=("$LAB_ROOT/docs/operators.md" "$LAB_ROOT/docs/guide.md" "$LAB_ROOT/docs/troubleshooting.md")
DOCS_USER=ann
SERVERS="boot alder birch maple"
declare -A HOLDER=()

# ---- machines ----

# machine_as NAME USER COMMAND...
machine_as() {
    local name=$1 user=$2 home=/root
    shift 2
    [ "$user" = root ] || home=/home/$user
    nsenter --net="/run/netns/$(lab_ns "$name")" --mount="/proc/${HOLDER[$name]}/ns/mnt" -- \
        setpriv --reuid "$user" --regid "$user" --init-groups env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        HOME="$home" USER="$user" LC_ALL=C.UTF-8 TERM=xterm ${ASAN_OPTIONS:+ASAN_OPTIONS="$ASAN_OPTIONS"} "$@" {LAB_LOCK_FD}>&-
}

# machine NAME: its files are its own from here on
machine() {
    local name=$1
    lab_spawn "$name" "holder-$name" unshare --mount --propagation private sh -c 'set -e
        mkdir -p "$0"
        mount -t tmpfs tmpfs "$0"
        for dir in etc usr/local var home; do
            where=$0/$(echo $dir | tr / _)
            mkdir -p "$where/upper" "$where/work"
            mount -t overlay overlay -o "lowerdir=/$dir,upperdir=$where/upper,workdir=$where/work" "/$dir"
        done
        mount -t tmpfs -o mode=755 tmpfs /run
        rm -rf /etc/meshvpn /var/lib/meshvpn /run/meshvpn
        echo ready
        exec sleep infinity' "$LAB_DIR/machine-$name"
    HOLDER[$name]=$LAB_PID
    until grep -q ready "$LAB_DIR/log/holder-$name.log"; do
        kill -0 "$LAB_PID" 2>/dev/null || mesh_fail "no machine $name" "holder-$name"
        sleep 0.02
    done
    nsenter --mount="/proc/$LAB_PID/ns/mnt" -- sh -c 'for program in "" -client -relay -exit-node -dht-bootstrap -discovery -bootstrap; do
            cp "$1/meshvpn$program" /usr/local/bin/ || exit
        done
        echo "nameserver $2" >/etc/resolv.conf
        install -m 755 "$3" /usr/local/bin/systemctl
        ln -s systemctl /usr/local/bin/journalctl
        getent passwd meshvpn >/dev/null || useradd --system --user-group --no-create-home meshvpn' sh \
        "$MESH_PROGRAMS" "$(lab_addr4 dns)" "$LAB_HERE/docs_systemctl.sh" >>"$LAB_DIR/log/holder-$name.log" 2>&1 ||
        mesh_fail "machine $name cannot be set up" "holder-$name"
}

# person NAME: somebody who may use sudo there
person() {
    nsenter --mount="/proc/${HOLDER[$1]}/ns/mnt" -- sh -c 'useradd --create-home --shell /bin/bash "$0" &&
        mkdir -p /etc/sudoers.d &&
        printf "%s ALL=(ALL) NOPASSWD: ALL\nDefaults:%s secure_path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin\n" "$0" "$0" >/etc/sudoers.d/lab &&
        chmod 440 /etc/sudoers.d/lab' "$DOCS_USER" || lab_die "no user on $1"
}

# server NAME: rented; the operator's key opens it
server() {
    machine "$1"
    mkdir -p "$LAB_DIR/ssh"
    [ -e "$LAB_DIR/ssh/user" ] || ssh-keygen -q -t ed25519 -N '' -f "$LAB_DIR/ssh/user"
    ssh-keygen -q -t ed25519 -N '' -f "$LAB_DIR/ssh/$1"
    echo "$(lab_addr4 "$1") $(cut -d ' ' -f 1,2 "$LAB_DIR/ssh/$1.pub")" >>"$LAB_DIR/ssh/known_hosts"
    printf '%s\n' "Port 22" "HostKey $LAB_DIR/ssh/$1" "AuthorizedKeysFile $LAB_DIR/ssh/user.pub" "StrictModes no" \
        "PermitRootLogin prohibit-password" "PasswordAuthentication no" "KbdInteractiveAuthentication no" "UsePAM no" \
        "PidFile none" >"$LAB_DIR/ssh/$1.conf"
    machine_as "$1" root mkdir -p /run/sshd /run/systemd/system
    machine_as "$1" root /usr/sbin/sshd -D -e -f "$LAB_DIR/ssh/$1.conf" >"$LAB_DIR/log/sshd-$1.log" 2>&1 &
    LAB_PIDS+=("$!")
    lab_wait_port "$1" tcp 22 || mesh_fail "no sshd on $1" "sshd-$1"
}

# ---- blocks ----

# run_block MACHINE USER FILE EXIT SECONDS: as the user would, from his home
run_block() {
    local status=0 user=$2 seconds=$5
    set -- "$1" "$3" "$4"
    {
        echo "cd"
        echo "set -e -o pipefail"
        cat "$2"
    } >"$2.run"
    if [ "$seconds" != 0 ]; then # what goes on until somebody ends it
        machine_as "$1" "$user" timeout --foreground --signal=INT "$seconds" script -q -e -c "bash $2.run" /dev/null || status=$?
        [ "$status" = 124 ] || [ "$status" = 130 ] && status=0
    else
        machine_as "$1" "$user" timeout 60 bash "$2.run" </dev/null || status=$?
    fi
    echo "exit status $status"
    [ "$status" = "$3" ]
}

mesh_need_programs
lab_begin
LAB_RELAYS="alder birch maple"
lab_internet
lab_node away
lab_wire away "$(lab_addr4 away)" "$(lab_addr6 away)"
lab_services 1
for node in $SERVERS; do
    server "$node"
done
machine away
person away
machine client
person client
machine_as away "$DOCS_USER" mkdir -m 700 "/home/$DOCS_USER/.ssh"
install -m 600 "$LAB_DIR/ssh/user" "$LAB_DIR/ssh/user.copy"
nsenter --mount="/proc/${HOLDER[away]}/ns/mnt" -- sh -c 'install -o "$0" -g "$0" -m 600 "$1/user" /home/"$0"/.ssh/id_ed25519 &&
    install -o "$0" -g "$0" -m 644 "$1/known_hosts" /home/"$0"/.ssh/known_hosts' "$DOCS_USER" "$LAB_DIR/ssh"
chmod 711 "$LAB_DIR"
mkdir -m 755 "$LAB_DIR/blocks" "$LAB_DIR/shared"
chmod 777 "$LAB_DIR/shared"
"$LAB_PYTHON" "$LAB_HERE/docs_tool.py" blocks "${GUIDES[@]}" --out "$LAB_DIR/blocks" \
    --set "203.0.113.4=$(lab_addr4 boot)" --set "203.0.113.5=$(lab_addr4 alder)" \
    --set "198.51.100.7=$(lab_addr4 birch)" --set "192.0.2.9=$(lab_addr4 maple)" \
    --set "example.org=$LAB_WEB_NAME" --set "/tmp/link=$LAB_DIR/shared/link" >"$LAB_DIR/blocks.list" || lab_die "the guides cannot be read"
while read -r number where place status seconds <&3; do
    case $place in
    operator) node=away user=$DOCS_USER ;;
    member) node=client user=$DOCS_USER ;;
    server) node=alder user=root ;; # as ssh has let us in
    exit) node=maple user=root ;;
    package) continue ;; # tests/package.sh
    *) lab_die "$where: unknown machine '$place'" ;;
    esac
    lab_check "docs_$where" run_block "$node" "$user" "$LAB_DIR/blocks/$number.sh" "$status" "$seconds"
    [ -z "${DOCS_SHOW:-}" ] || cat "$LAB_DIR/check.out"
done 3<"$LAB_DIR/blocks.list"
lab_check docs_messages "$LAB_PYTHON" "$LAB_HERE/docs_tool.py" messages "${GUIDES[@]}" --source "$LAB_ROOT/src"
exit $((LAB_FAILED > 0))
