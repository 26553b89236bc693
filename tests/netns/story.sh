# shellcheck shell=bash
# What the demos share: a story for a person, whose claims are held to; sourced after lab.sh and mesh.sh.

problems=0
started=$(date +%s%N)

tell() {
    printf '%s\n' "$*"
}

# hold CONDITION-TEXT COMMAND...: a claim of the story
hold() {
    local text=$1
    shift
    if "$@" >/dev/null 2>&1; then
        tell "   ok    $text"
    else
        problems=$((problems + 1))
        tell "   FAIL  $text"
    fi
}

elapsed() {
    awk -v from="$started" -v to="$(date +%s%N)" 'BEGIN { printf "%.1f s", (to - from) / 1e9 }'
}

# fetch_page: sets http_status, and seen to the address that the web server saw
fetch_page() {
    rm -f "$LAB_DIR/page.html"
    http_status=$(mesh_curl_name "$(lab_addr4 web)" -o "$LAB_DIR/page.html" -w '%{http_code}' \
        "http://$LAB_WEB_NAME/" 2>>"$LAB_DIR/log/curl.log") || http_status=${http_status:-0}
    case $http_status in '' | 000) http_status=0 ;; esac
    seen=$(awk '$2 == "/" { print $1 }' "$LAB_DIR/web.seen" 2>/dev/null | tail -n 1)
}

# verdict LOG...: the last words; the ends of the logs if something did not hold
verdict() {
    local log
    tell ""
    if [ "$problems" = 0 ]; then
        tell "Everything held ($(elapsed))."
        return
    fi
    tell "$problems of the claims above did not hold ($(elapsed)). Last lines of the logs:"
    for log in "$@"; do
        tell "--- $log"
        tail -n 8 "$LAB_DIR/log/$log.log" 2>/dev/null
    done
}

# stay_up: how to look around, and on until a program ends or Ctrl-C
stay_up() {
    mkdir -p "/etc/netns/$(lab_ns client)" 2>/dev/null &&
        echo "nameserver $MESH_GATEWAY4" >"/etc/netns/$(lab_ns client)/resolv.conf"
    tell ""
    tell "The network stays up. In another terminal, as root:"
    tell "   ip netns exec $(lab_ns client) bash        the client's network; then for example"
    tell "       curl http://$LAB_WEB_NAME/             ping $(lab_addr4 web)"
    tell "   $MESH_PROGRAMS/meshvpn status --control $LAB_DIR/sock/client"
    tell "   logs: $LAB_DIR/log"
    tell "Ctrl-C ends it and leaves nothing behind."
    "$@"
    # In pieces: bash runs the trap only between commands.
    while mesh_alive >/dev/null; do
        sleep 1 &
        wait $!
    done
    mesh_alive
    exit 1
}
