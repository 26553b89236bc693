#!/bin/bash
# The host's name servers while a client runs: by /etc/resolv.conf, systemd-resolved (a mock) and resolvconf (a stand-in;
# "packages": Debian's two), kept there whatever others do, put back however it ends. Prints "ok NAME" or "FAIL NAME".
#
#     dns.sh [CASE...]       file, kinds, shared, resolved, resolvconf; packages (needs Debian's mirror); reconnects (alone)
set -u
# shellcheck source=tests/netns/lab.sh
. "$(dirname "$0")/lab.sh"
# shellcheck source=tests/netns/mesh.sh
. "$(dirname "$0")/mesh.sh"
# shellcheck source=tests/netns/leak_lab.sh
. "$(dirname "$0")/leak_lab.sh"
# shellcheck source=tests/netns/dns_lab.sh
. "$(dirname "$0")/dns_lab.sh"

# up MANAGER: connected, names lead into the tunnel
up() {
    dns_client_start "$1"
    mesh_client_wait
}

is_put_back() {
    dns_until 3 dns_unchanged || dns_unchanged
}

cleanup() {
    dns_in "$MESH_PROGRAMS/meshvpn-client" --config "$LAB_DIR/client.conf" --cleanup
}

status_tells() {
    local status
    status=$(mesh_status | mesh_get dns)
    echo "$status"
    [ "$(dns_get manager)" = "$1" ] && [ "$(dns_get is_set)" = true ] && echo "$status" | grep -q "$MESH_GATEWAY4" &&
        lab_in client "$MESH_PROGRAMS/meshvpn" status --control "$LAB_DIR/sock/client" | grep "^names .*tunnel ($1)"
}

# repairs SCRIPT: another program's doing is undone within a second, and counted
repairs() {
    local from before after=
    before=$(dns_get repaired)
    dns_sh "$1"
    from=$(date +%s%N)
    dns_until 1 is_good || return 1
    echo "after $((($(date +%s%N) - from) / 1000000)) ms"
    dns_until 1 eval '[ "$(dns_get repaired)" -gt "$before" ]'
}

is_good() {
    dns_is_ours
}

ends_by_itself() {
    dns_until 5 eval '! kill -0 "$MESH_CLIENT_PID"'
}

# ---- /etc/resolv.conf ----

case_file() {
    local theirs=172.16.7.7
    dns_place file
    up auto
    lab_check file_is_set dns_is_ours
    lab_check file_drops_search_and_trust dns_sh 'grep -qx "search ." /etc/resolv.conf && grep -qx "options edns0 timeout:1" /etc/resolv.conf'
    lab_check file_resolves dns_resolves
    lab_check file_status status_tells file
    lab_check file_processes eval '[ "$(cat /proc/$(dns_pid names)/comm)" = mvpn-dns ] &&
        grep -q "^CapEff:.*0000000000000000" "/proc/$(dns_pid names)/status" && grep -q "^Seccomp:.2" "/proc/$(dns_pid names)/status"'
    lab_check file_repairs_removal repairs 'rm /etc/resolv.conf'
    lab_check file_repairs_rename repairs "echo 'nameserver $theirs' >/etc/x && mv /etc/x /etc/resolv.conf"
    lab_check file_repairs_link repairs 'mkdir -p /run/other; echo nameserver 172.16.7.8 >/run/other/r; ln -sf /run/other/r /etc/resolv.conf'
    lab_check file_keeps_what_others_said dns_sh '[ "$(readlink /etc/resolv.conf.meshvpn-backup)" = /run/other/r ]'
    dns_sh 'rm -f /run/other/r'
    mesh_client_stop
    lab_check file_stop_leaves_what_others_said dns_sh '[ "$(readlink /etc/resolv.conf)" = /run/other/r ] && ! ls /etc/resolv.conf.*'
    dns_place file
    up auto
    mesh_client_stop
    lab_check file_stop_restores is_put_back
    up auto
    mesh_client_stop KILL
    lab_check file_kill_9_restores is_put_back
    up auto
    kill -KILL "$(dns_pid helper)"
    lab_check file_helper_killed_restores is_put_back
    lab_check file_helper_killed_ends ends_by_itself
    mesh_client_stop
    up auto
    kill -KILL "$(dns_pid names)"
    lab_check file_names_killed_ends ends_by_itself
    mesh_client_stop
    lab_check file_names_killed_is_told grep -q 'the process that keeps the name servers ended' "$LAB_DIR/log/client.log"
    up file
    lab_check file_next_start_goes_on dns_is_ours
    dns_kill_all
    lab_check file_all_killed_stays dns_is_ours
    lab_check file_cleanup cleanup
    lab_check file_cleanup_restores is_put_back
    up auto
    dns_kill_all
    dns_sh 'echo nameserver 172.16.7.9 >/etc/x && mv /etc/x /etc/resolv.conf'
    lab_check file_cleanup_leaves_others eval 'cleanup 2>&1 | tee /dev/stderr | grep -q "written by another program" &&
        dns_sh "grep -qx \"nameserver 172.16.7.9\" /etc/resolv.conf && ! ls /etc/resolv.conf.*"'
    dns_place file
    dns_client_start auto "inside_domains = {lab.example}"
    mesh_client_wait
    lab_check file_inside_domains_is_set dns_is_ours
    lab_check file_inside_domain_is_reached_inside eval 'is_seen_by_name -4 "$(lab_addr4 maple)" && is_seen_by_name -6 "$(lab_addr6 maple)"'
    mesh_client_stop
    lab_check file_inside_domains_restores is_put_back
}

# As a browser does: the name, then its address at once.
is_seen_by_name() {
    [ "$(dns_in "${DNS_USER[@]}" curl --noproxy '*' -s --max-time 3 "$1" "http://$LAB_WEB_NAME/ip" | tee /dev/stderr)" = "$2" ]
}

case_kinds() {
    local kind
    for kind in link none mount; do
        dns_place $kind
        MESH_KILL_SWITCH=true
        [ $kind != link ] || MESH_KILL_SWITCH=false # then names are all that is left
        up auto
        lab_check "${kind}_is_set" dns_is_ours
        [ $kind != mount ] || lab_check mount_repairs repairs 'echo nameserver 172.16.7.7 >/etc/resolv.conf && false || true'
        [ $kind != mount ] || dns_sh "echo 'nameserver $(lab_addr4 fig)' >/run/other/mounted"
        [ $kind != mount ] || dns_until 2 dns_is_ours
        mesh_client_stop
        lab_check "${kind}_stop_restores" is_put_back
        up auto
        dns_kill_all
        lab_check "${kind}_down" dns_in "$MESH_PROGRAMS/meshvpn" down --config "$LAB_DIR/client.conf"
        lab_check "${kind}_down_restores" is_put_back
    done
    dns_place file
    dns_sh 'mount -o remount,ro /etc'
    dns_client_start auto
    lab_check read_only_is_told dns_until 5 grep -q 'read-only.*dns = none' "$LAB_DIR/log/client.log"
    mesh_client_stop
    dns_sh 'mount -o remount,rw /etc'
    up none
    lab_check none_leaves_it dns_unchanged
    lab_check none_status eval '[ "$(dns_get manager)" = none ] && [ "$(dns_get is_set)" = false ]'
    mesh_client_stop
    cleanup
    dns_client_start auto 'inside_users = {12345}'
    mesh_client_wait
    lab_check inside_leaves_it dns_unchanged
    lab_check inside_is_told grep -q 'only what inside_\* lists goes into the tunnel' "$LAB_DIR/log/client.log"
    mesh_client_stop
    dns_client_start file 'inside_users = {12345}'
    mesh_client_wait
    lab_check inside_file_is_set dns_is_ours
    mesh_client_stop
    cleanup
}

# A client in a network namespace without an /etc of its own is no reason to change the machine's. The machine is played
# by a process 1 whose network is another and whose /etc is the client's.
case_shared() {
    local client network
    dns_place file
    up auto
    mesh_client_stop
    dns_until 3 dns_unchanged
    exec {network}<"/run/netns/$(lab_ns client)"
    lab_spawn client shared nsenter --mount="/proc/$DNS_HOLDER/ns/mnt" -- unshare --net --pid --fork --kill-child --mount-proc \
        sh -c "nsenter --net=/proc/self/fd/$network '$MESH_PROGRAMS/meshvpn-client' --config '$LAB_DIR/client.conf' & wait"
    client=$LAB_PID
    exec {network}<&-
    lab_check shared_is_told dns_until 5 grep -q 'this network is another: it stays' "$LAB_DIR/log/shared.log"
    lab_check shared_connects dns_until 10 eval '[ "$(mesh_status | mesh_get state)" = connected ]'
    lab_check shared_stays dns_unchanged
    lab_stop "$client" KILL
    dns_until 5 eval '! lab_in client ip link show "$MESH_TUN"'
    cleanup
}

# ---- systemd-resolved ----

is_told() {
    cat "$LAB_DIR/resolved.json"
    [ "$(dns_mock_get links)" = 1 ] &&
        [ "$(dns_mock_get link.SetLinkDNS)" = "[[[2, [10, 8, 0, 1]], [10, [253, 109, 118, 112, 110, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]]]]" ] &&
        grep -q '"SetLinkDomains": \[\[\[".", \(1\|true\)\]\]\]' "$LAB_DIR/resolved.json" &&
        grep -q '"SetLinkLLMNR": \["no"\]' "$LAB_DIR/resolved.json" &&
        grep -q '"SetLinkMulticastDNS": \["no"\]' "$LAB_DIR/resolved.json" &&
        grep -q '"SetLinkDNSOverTLS": \["no"\]' "$LAB_DIR/resolved.json" &&
        grep -q '"SetLinkDefaultRoute": \[\(1\|true\)\]' "$LAB_DIR/resolved.json"
}

is_forgotten() {
    [ "$(dns_mock_get links)" = 0 ]
}

case_resolved() {
    dns_place stub
    dns_bus_start
    dns_mock_start
    up auto
    lab_check resolved_is_told is_told
    lab_check resolved_status status_tells systemd-resolved
    lab_check resolved_sandbox eval 'grep -q "^CapEff:.*0000000000000000" "/proc/$(dns_pid names)/status"'
    kill -USR1 "$DNS_MOCK"
    sleep 0.1
    lab_check resolved_is_told_again_within_a_second dns_until 1 is_told
    dns_mock_stop
    : >"$LAB_DIR/resolved.json"
    lab_check resolved_gone_is_known dns_until 2 eval '[ "$(dns_get is_set)" = false ]'
    dns_mock_start
    lab_check resolved_restarted_is_told dns_until 1 is_told
    lab_check resolved_restarted_status dns_until 1 eval '[ "$(dns_get is_set)" = true ]'
    mesh_client_stop
    lab_check resolved_stop_reverts is_forgotten
    lab_check resolved_leaves_the_file dns_unchanged
    up auto
    mesh_client_stop KILL
    lab_check resolved_kill_9_reverts dns_until 3 is_forgotten
    up auto
    lab_stop "$DNS_BUS"
    dns_bus_start
    dns_mock_stop
    dns_mock_start
    lab_check resolved_bus_restarted dns_until 3 is_told
    mesh_client_stop
    dns_mock_stop
    dns_mock_start refuse
    : >"$LAB_DIR/log/client.log"
    up auto
    lab_check resolved_refusal_is_told dns_until 2 grep -q 'names: systemd-resolved refuses SetLinkDNS: Access denied' "$LAB_DIR/log/client.log"
    lab_check resolved_refusal_in_status eval '[ "$(dns_get is_set)" = false ] &&
        lab_in client "$MESH_PROGRAMS/meshvpn" status --control "$LAB_DIR/sock/client" | grep "^names .*NOT"'
    mesh_client_stop
    dns_mock_stop
    dns_mock_start hang
    up auto
    lab_check resolved_hanging_is_told dns_until 3 grep -q 'names: systemd-resolved does not answer' "$LAB_DIR/log/client.log"
    lab_check resolved_hanging_ends_in_time timeout 8 bash -c "kill $MESH_CLIENT_PID; while kill -0 $MESH_CLIENT_PID 2>/dev/null; do sleep 0.1; done"
    mesh_client_stop
    dns_mock_stop KILL
    lab_stop "$DNS_BUS"
    dns_client_start resolved
    lab_check resolved_missing_is_told dns_until 5 grep -q 'cannot reach the system bus' "$LAB_DIR/log/client.log"
    mesh_client_stop
}

# ---- resolvconf ----

is_first() {
    [ "$(dns_sh "grep '^nameserver' /etc/resolv.conf | head -n 1")" = "nameserver $MESH_GATEWAY4" ]
}

# life NAME: with the program that is in place; the local network's record is there already
life() {
    local name=$1
    is_good() { is_first; }
    dns_look >"$LAB_DIR/dns.before"
    dns_sh 'cat /etc/resolv.conf' >"$LAB_DIR/dns.text"
    up auto
    lab_check "${name}_is_first" is_first
    lab_check "${name}_resolves" dns_resolves
    lab_check "${name}_status" status_tells resolvconf
    lab_check "${name}_repairs" repairs "$2"
    mesh_client_stop
    lab_check "${name}_stop_restores" eval 'dns_sh "cat /etc/resolv.conf" | diff "$LAB_DIR/dns.text" -'
    up auto
    mesh_client_stop KILL
    lab_check "${name}_kill_9_restores" dns_until 3 eval 'dns_sh "cat /etc/resolv.conf" | diff "$LAB_DIR/dns.text" -'
    up auto
    dns_kill_all
    lab_check "${name}_cleanup" cleanup
    lab_check "${name}_cleanup_restores" eval 'dns_sh "cat /etc/resolv.conf" | diff "$LAB_DIR/dns.text" -'
    is_good() { dns_is_ours; }
}

# Records of interfaces, merged in a file in the order of their names: enough of what both programs do.
case_resolvconf() {
    dns_place none
    cat >"$LAB_DIR/resolvconf" <<'PROGRAM'
#!/bin/sh
set -e
dir=/run/resolvconf/interfaces
mkdir -p $dir
case $1 in
-a) cat >"$dir/$2" ;;
-d) rm -f "$dir/$2" ;;
-u) ;;
*) exit 1 ;;
esac
{
    echo '# Generated by resolvconf'
    [ ! -e $dir/mvpn0 ] || cat $dir/mvpn0
    for f in $dir/*; do [ "$f" = $dir/mvpn0 ] || cat "$f"; done
} >/etc/resolv.conf.new
mv /etc/resolv.conf.new /etc/resolv.conf
PROGRAM
    chmod 755 "$LAB_DIR/resolvconf"
    dns_sh "mkdir -p /run/bin && cp '$LAB_DIR/resolvconf' /run/bin/resolvconf && mkdir -p /run/sbin.up /run/sbin.work &&
        mount -t overlay overlay -o lowerdir=/usr/sbin,upperdir=/run/sbin.up,workdir=/run/sbin.work /usr/sbin &&
        cp /run/bin/resolvconf /usr/sbin/resolvconf"
    dns_sh "echo 'nameserver $(lab_addr4 fig)' | resolvconf -a eth0"
    life resolvconf "echo 'nameserver 172.16.7.7' >/run/resolvconf/interfaces/mvpn0; resolvconf -u"
    dns_sh 'umount /usr/sbin'
}

# Debian's two programs themselves, unpacked over the client's host.
case_packages() {
    local package
    for package in resolvconf openresolv; do
        mkdir -p "$LAB_DIR/$package"
        (cd "$LAB_DIR/$package" && apt-get -q download $package >/dev/null 2>&1 && dpkg-deb -x ./*.deb root) ||
            lab_die "cannot fetch the package $package"
        dns_place none
        # The unpacked files lie over /usr/sbin, /usr/lib/resolvconf and /etc.
        dns_sh "rm -rf /run/resolvconf && mkdir -p /run/pkg/$package/up /run/pkg/$package/work /run/resolvconf/interface &&
            cp -r '$LAB_DIR/$package/root/sbin/.' /run/pkg/$package/up/ &&
            mount -t overlay overlay -o lowerdir=/usr/sbin,upperdir=/run/pkg/$package/up,workdir=/run/pkg/$package/work /usr/sbin &&
            mkdir -p /run/pkg/$package/lib /run/pkg/$package/libwork /run/pkg/$package/lib/resolvconf &&
            cp -r '$LAB_DIR/$package/root/lib/resolvconf/.' /run/pkg/$package/lib/resolvconf/ &&
            mount -t overlay overlay -o lowerdir=/usr/lib,upperdir=/run/pkg/$package/lib,workdir=/run/pkg/$package/libwork /usr/lib &&
            cp -r '$LAB_DIR/$package/root/etc/.' /etc/" || lab_die "cannot unpack $package"
        if [ $package = resolvconf ]; then
            dns_sh 'ln -sf /run/resolvconf/resolv.conf /etc/resolv.conf && : >/run/resolvconf/enable-updates'
        fi
        dns_sh "echo 'nameserver $(lab_addr4 fig)' | resolvconf -a eth0.dhclient"
        life "package_$package" "echo 'nameserver 172.16.7.7' >/etc/y; cat /etc/y >/etc/resolv.conf"
        dns_sh "umount /usr/lib /usr/sbin; rm -rf /etc/resolvconf /etc/resolvconf.conf"
    done
}

# A short run of ./run soak dns, which has a lab of its own.
if [ "$*" = reconnects ]; then
    result=$("$LAB_HERE/../soak/dns.sh" --lookups 400 --reconnects 6) && echo "ok reconnects_leak_no_question" && exit
    echo "FAIL reconnects_leak_no_question: $result"
    exit 1
fi

LAB_FAILED=0
dns_lab_begin
machine=$(stat -c '%i %Y %s' /etc/resolv.conf 2>/dev/null)
[ $# -gt 0 ] || set -- file kinds shared resolved resolvconf
for case in "$@"; do
    "case_$case"
done
lab_check machine_is_untouched [ "$(stat -c '%i %Y %s' /etc/resolv.conf 2>/dev/null)" = "$machine" ]
exit "$((LAB_FAILED > 0))"
