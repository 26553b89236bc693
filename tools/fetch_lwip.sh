#!/bin/sh
# The sources of lwIP, as Debian has them: fetched by apt, which checks them against the archive's signature,
# and unpacked with Debian's patches. Nothing of this machine's apt is changed, and no rights are needed.
#
#     fetch_lwip.sh DIRECTORY        does nothing if they are there
#
# The binary package is of no use: its pools are smaller than what it hands out of them.
set -u
[ $# = 1 ] || {
    echo "usage: fetch_lwip.sh DIRECTORY" >&2
    exit 2
}
mkdir -p "$(dirname "$1")" || exit 1
target=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
[ -e "$target/src/include/lwip/init.h" ] && exit 0
for program in apt-get dpkg-source; do
    command -v "$program" >/dev/null || {
        echo "fetch_lwip.sh: $program is missing (apt-get install dpkg-dev)" >&2
        exit 1
    }
done
work=$(mktemp -d "$target.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/sources.d"
# This machine's own sources, as source packages.
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
    [ -f "$file" ] || continue
    name=$(basename "$file")
    case $name in
    *.sources) sed -E 's/^Types:.*/Types: deb-src/' "$file" >"$work/sources.d/$name" ;;
    *.list) sed -nE 's/^deb(-src)?([[:space:]].*debian)/deb-src\2/p' "$file" >"$work/sources.d/$name" ;;
    esac
done
apt() {
    apt-get -q -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$work/sources.d" -o Dir::State::Lists="$work/lists" \
        -o Dir::Cache="$work/cache" -o Acquire::http::Timeout=20 -o Acquire::Retries=1 -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none "$@"
}
cd "$work" || exit 1
# Sources of others (third parties) may fail: lwIP is Debian's own.
apt update >"$work/log" 2>&1
apt source --download-only lwip >>"$work/log" 2>&1 && dpkg-source --no-check -x lwip_*.dsc unpacked >>"$work/log" 2>&1 || {
    cat "$work/log" >&2
    echo "fetch_lwip.sh: lwIP's sources could not be fetched; meshvpn is built without its proxy" >&2
    exit 1
}
[ -e unpacked/src/include/lwip/init.h ] && mv -T unpacked "$target"
