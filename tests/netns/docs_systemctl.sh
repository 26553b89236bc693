#!/bin/sh
# Stands in for systemctl and journalctl on the machines of docs.sh: a unit is its ExecStart, started in the background.
# Type=notify and everything else that a unit says is left to packaging/units_test.py.
set -u
dir=/run/units
mkdir -p "$dir"

unit_of() {
    case $1 in *.*) echo "$1" ;; *) echo "$1.service" ;; esac
}

file_of() {
    for place in /etc/systemd/system /usr/local/lib/systemd/system /usr/lib/systemd/system /lib/systemd/system; do
        [ -e "$place/$1" ] && echo "$place/$1" && return
    done
    echo "Unit $1 not found." >&2
    return 5
}

is_active() {
    [ -e "$dir/$1.pid" ] && kill -0 "$(cat "$dir/$1.pid")" 2>/dev/null
}

stop() {
    is_active "$1" || return 0
    pid=$(cat "$dir/$1.pid")
    kill -TERM "$pid"
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.05
    done
    rm "$dir/$1.pid"
}

start() {
    is_active "$1" && return
    file=$(file_of "$1") || return
    command=$(sed -n 's/^ExecStart=//p' "$file")
    # shellcheck disable=SC2086 # words
    setsid $command </dev/null >>"$dir/$1.log" 2>&1 &
    echo $! >"$dir/$1.pid"
    sleep 0.3
    is_active "$1"
}

if [ "${0##*/}" = journalctl ]; then
    cat "$dir"/*.log
    exit
fi
verb=
now=
units=
for word; do
    case $word in
    --now) now=1 ;;
    -*) ;;
    *) if [ -z "$verb" ]; then verb=$word; else units="$units $(unit_of "$word")"; fi ;;
    esac
done
case $verb in
daemon-reload | is-system-running) exit 0 ;;
esac
for unit in $units; do
    case $verb in
    enable | disable) file_of "$unit" >/dev/null || exit; [ -z "$now" ] || if [ "$verb" = enable ]; then start "$unit"; else stop "$unit"; fi || exit ;;
    start) start "$unit" || exit ;;
    stop) stop "$unit" ;;
    restart) stop "$unit" && start "$unit" || exit ;;
    is-active) is_active "$unit" || exit 3 ;;
    is-enabled) file_of "$unit" >/dev/null || exit ;;
    status) is_active "$unit" && echo "active" || exit 3 ;;
    *) echo "docs_systemctl.sh knows no '$verb'" >&2; exit 1 ;;
    esac
done
