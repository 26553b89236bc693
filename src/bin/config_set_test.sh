#!/bin/bash
# meshvpn config set and unset: one key in place, everything else byte for byte; nothing wrong is ever written.
# Also meshvpn log where no systemd runs.
#
#     config_set_test.sh MESHVPN
set -u
meshvpn=$(realpath "$1") || exit 1
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failed=0
file=$dir/client.conf

fail() {
    echo "config_set_test: $*" >&2
    sed 's/^/    /' "$dir/out" >&2
    failed=1
}

# changes NAME PATTERN ARGUMENT...: exits with 0, says PATTERN, and the file becomes standard input
changes() {
    local name=$1 pattern=$2
    shift 2
    cat >"$dir/wanted"
    "$meshvpn" config "$@" --file "$file" >"$dir/out" 2>&1 || fail "$name: exit status $?"
    grep -qF -- "$pattern" "$dir/out" || fail "$name: does not say: $pattern"
    cmp -s "$file" "$dir/wanted" || fail "$name: $(diff "$file" "$dir/wanted")"
    if compgen -G "$dir/*.tmp.*" >/dev/null; then fail "$name: left a temporary file"; fi
}

# refuses NAME CODE PATTERN ARGUMENT...: exits with CODE, says PATTERN, and the file stays as it is
refuses() {
    local name=$1 code=$2 pattern=$3
    shift 3
    [ -e "$file" ] && cp -p "$file" "$dir/before"
    "$meshvpn" config "$@" --file "$file" >"$dir/out" 2>&1
    [ $? = "$code" ] || fail "$name: wrong exit status"
    grep -qF -- "$pattern" "$dir/out" || fail "$name: does not say: $pattern"
    [ ! -e "$dir/before" ] || cmp -s "$file" "$dir/before" || fail "$name: the file changed"
}

changes "a file is made" "client.conf:1: hops = 4" set hops 4 <<<'hops = 4'
[ "$(stat -c %a "$file")" = 644 ] || fail "mode of a new file"
cat >"$file" <<'END'
# mine
hops = 4    # two would do

/* exit_country = SE */
exit_ports = {"443", # web
              "80"}
END
chmod 640 "$file"
[ "$(id -u)" != 0 ] || chown 12345:54321 "$file"
was=$(stat -c '%a %u %g' "$file")
changes "in place" "holds from the next start of meshvpn-client" set client hops 5 <<'END'
# mine
hops = 5    # two would do

/* exit_country = SE */
exit_ports = {"443", # web
              "80"}
END
[ "$(stat -c '%a %u %g' "$file")" = "$was" ] || fail "mode and owner are kept: $(stat -c '%a %u %g' "$file"), not $was"
changes "behind the others" 'exit_country = CH' set exit_country CH <<'END'
# mine
hops = 5    # two would do

/* exit_country = SE */
exit_ports = {"443", # web
              "80"}
exit_country = CH
END
changes "a list" 'exit_ports = {"443", "8080"}' set exit_ports 443,8080 <<'END'
# mine
hops = 5    # two would do

/* exit_country = SE */
exit_ports = {"443", "8080"}
exit_country = CH
END
changes "taken out" 'exit_country is taken out; the default is: any' unset exit_country <<'END'
# mine
hops = 5    # two would do

/* exit_country = SE */
exit_ports = {"443", "8080"}
END
changes "not there" 'does not say exit_country' unset exit_country <"$file"

refuses "unknown key" 1 "Did you mean 'hops'?" set hopps 4
refuses "no key of this kind" 1 "'policy' is no key of the client's configuration" set policy "accept any *"
refuses "out of range" 1 "Nothing was changed" set hops 9
refuses "no number" 1 "Nothing was changed" set hops "4 kill_switch = false"
refuses "two lines" 1 "text of one line" set exit_country $'CH\nkill_switch = false'
refuses "a variable" 1 "text of one line" set tun_name '${HOME}'
refuses "nothing to set" 2 "config set KEY VALUE" set
refuses "no value" 2 "config set KEY VALUE" set hops
refuses "no key" 2 "config unset KEY" unset client

"$meshvpn" config set kill_switch false --file "$file" >"$dir/out" || fail "kill_switch"
refuses "against another key" 1 "lockdown needs kill_switch" set lockdown true
mkdir "$file.d"
echo "hops = 2" >"$file.d/local.conf"
"$meshvpn" config set hops 3 --file "$file" >"$dir/out" 2>&1 || fail "beside a part"
grep -q "local.conf:1 says otherwise and is read later" "$dir/out" || fail "an override is not told"
"$meshvpn" config show client "$file" >"$dir/out" 2>&1
grep -q "^hops = 2 .*# $file.d/local.conf:1$" "$dir/out" || fail "config show does not name the part"
ln -s "$file" "$dir/link.conf"
"$meshvpn" config set hops 4 --file "$dir/link.conf" >"$dir/out" 2>&1
[ -L "$dir/link.conf" ] && grep -q "^hops = 4" "$file" || fail "a link stays one"

if [ "$(id -u)" = 0 ]; then
    chmod 755 "$dir"
    cp "$file" "$dir/before"
    setpriv --reuid 65534 --regid 65534 --clear-groups "$meshvpn" config set exit_ports '443, 80' --file "$file" >"$dir/out" 2>&1 &&
        fail "anybody may write"
    grep -qF "sudo meshvpn config set 'exit_ports' '443, 80' '--file' '$file'" "$dir/out" || fail "the command with sudo"
    cmp -s "$file" "$dir/before" || fail "anybody changed it"
fi

# --- log, of a client that no systemd runs ---
if [ ! -d /run/systemd/system ]; then
    printf 'run_dir = "%s"\n' "$dir" >"$file"
    rm -r "$file.d"
    "$meshvpn" log client "$file" >"$dir/out" 2>&1 && fail "a log that is not there"
    grep -q "there is no log" "$dir/out" || fail "no log: not told"
    printf 'one\nwarning: two\ndebug: three\nerror: four\nfive, half' >"$dir/client.log"
    [ "$("$meshvpn" log client "$file" --lines 2)" = $'debug: three\nerror: four' ] || fail "the last two lines"
    [ "$("$meshvpn" log client "$file" --level warn)" = $'warning: two\nerror: four' ] || fail "warnings and errors"
    timeout 5 "$meshvpn" log client "$file" --lines 1 --follow >"$dir/followed" &
    pid=$!
    for _ in $(seq 40); do
        [ -s "$dir/followed" ] && break
        sleep 0.1
    done
    printf ' a line\nsix\n' >>"$dir/client.log"
    for _ in $(seq 40); do
        grep -q six "$dir/followed" && break
        sleep 0.1
    done
    mv "$dir/client.log" "$dir/client.log.1"
    echo new >"$dir/client.log"
    for _ in $(seq 40); do
        grep -q new "$dir/followed" && break
        sleep 0.1
    done
    kill "$pid"
    wait "$pid" 2>/dev/null
    [ "$(cat "$dir/followed")" = $'error: four\nfive, half a line\nsix\nnew' ] || fail "followed: $(cat "$dir/followed")"
    "$meshvpn" log relay >"$dir/out" 2>&1 && fail "a relay's log"
    grep -q "systemd does not run meshvpn-relay here" "$dir/out" || fail "a relay's log: not told"
fi

# --- while the client runs: what must be restarted; and where systemd runs it ---
printf 'control_socket = "%s/control.sock"\n' "$dir" >"$file"
rm -rf "$file.d"
python3 -c 'import socket, sys, time
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); time.sleep(60)' "$dir/control.sock" &
pid=$!
for _ in $(seq 100); do
    [ -S "$dir/control.sock" ] && break
    sleep 0.05
done
if [ ! -d /run/systemd/system ]; then
    "$meshvpn" config set hops 2 --file "$file" >"$dir/out" 2>&1
    grep -q "Next: sudo meshvpn down && sudo meshvpn up" "$dir/out" || fail "a client that runs is not told of"
fi
if [ "$(id -u)" = 0 ]; then
    printf '#!/bin/sh\necho "$0" "$@"\n' >"$dir/journalctl"
    chmod 755 "$dir/journalctl"
    with_systemd() {
        # shellcheck disable=SC2016 # expands inside
        unshare -m sh -c 'mount -t tmpfs none /run && mkdir -p /run/systemd/system && touch /run/systemd/system/meshvpn.service &&
            PATH=$0:$PATH exec "$@"' "$dir" "$meshvpn" "$@" >"$dir/out" 2>&1
    }
    with_systemd config set hops 3 --file "$file"
    grep -q "Next: sudo systemctl restart meshvpn.service" "$dir/out" || fail "a unit that runs is not told of"
    with_systemd log client --lines 7 --level warn
    [ "$(cat "$dir/out")" = "$dir/journalctl --unit=meshvpn.service --lines=7 --priority=warning --no-pager" ] || fail "the journal: $(cat "$dir/out")"
    with_systemd log client --follow
    [ "$(cat "$dir/out")" = "$dir/journalctl --unit=meshvpn.service --lines=50 --priority=debug --follow" ] || fail "the journal, followed: $(cat "$dir/out")"
fi
kill "$pid"
wait "$pid" 2>/dev/null

[ "$failed" = 0 ] && echo passed
exit "$failed"
