#!/bin/bash
# ./run demo --rootless, short, by a user who has no rights and cannot get any; and that nothing of it is left.
#
#     demo_test.sh DIRECTORY-OF-PROGRAMS
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/meshvpn-rootless.XXXXXX")
trap 'rm -rf "$work"' EXIT

# What nobody may read: the checkout may be in a closed directory.
mkdir "$work/bin" "$work/tmp"
for program in meshvpn meshvpn-client meshvpn-relay meshvpn-exit-node meshvpn-dht-bootstrap meshvpn-bootstrap; do
    cp "$1/$program" "$work/bin"
done
cp "$here/demo.py" "$work/bin"
chmod -R a+rX "$work"
chmod 1777 "$work/tmp"

as_nobody=
if [ "$(id -u)" = 0 ]; then
    as_nobody="setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs"
fi
# shellcheck disable=SC2086 # words
$as_nobody grep -qx 'CapEff:[[:space:]]*0*' /proc/self/status || {
    echo "FAIL: this user has capabilities"
    exit 1
}
# shellcheck disable=SC2086
TMPDIR=$work/tmp $as_nobody timeout 100 "$work/bin/demo.py" "$work/bin" --once --json --mb 5 >"$work/result" || {
    cat "$work/result"
    exit 1
}
cat "$work/result"
/usr/bin/python3 - "$work/result" <<'EOT'
import json, sys
with open(sys.argv[1], encoding="utf-8") as file:
    result = json.loads(file.read().splitlines()[-1])
sys.exit(not (result["ok"] and result["uid"] != 0 and result["hops"] == 3 and result["http_status"] == 200 and
              result["seen_by_server"] == result["exit_addr"] != result["client_addr"] and result["tcp_mbit_s"] > 0))
EOT
[ -z "$(ls -A "$work/tmp")" ] || {
    echo "FAIL: left behind: $(ls -A "$work/tmp")"
    exit 1
}
