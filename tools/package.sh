#!/bin/sh
# tools/package.sh DIRECTORY [JOBS]: the Debian packages of this tree into DIRECTORY.
# Builds a copy of what git knows of, or would: the tree stays as it is, and nothing else of it gets in. Times are the
# commit's: two builds of it should be equal byte by byte, wherever they are made.
set -eu
cd "$(dirname "$0")/.."
mkdir -p "$1"
directory=$(cd "$1" && pwd)
version=$(sed -n "s/^project(.* version: '\([^']*\)'.*/\1/p" meson.build)
said=$(dpkg-parsechangelog -S Version)
if [ "$version" != "$said" ]; then
    echo "meson.build says version $version, debian/changelog $said" >&2
    exit 1
fi
# Without git, as from a tarball, the time is that of debian/changelog. All files get it: when they came here says nothing.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) || SOURCE_DATE_EPOCH=$(dpkg-parsechangelog -STimestamp)
export SOURCE_DATE_EPOCH
rm -rf "$directory/meshvpn-$version" "$directory"/*meshvpn*_"$version"_*
mkdir "$directory/meshvpn-$version"
if git rev-parse --git-dir >/dev/null 2>&1; then
    git ls-files -z --cached --others --exclude-standard
else
    find . -path ./build -prune -o -type f -print0
fi | xargs -0 sh -c 'for file; do [ ! -e "$file" ] || printf "%s\0" "$file"; done' sh |
    tar -c --null --mtime="@$SOURCE_DATE_EPOCH" -T - -f - | tar -x -C "$directory/meshvpn-$version" -f -
# For meshvpn proxy, if tools/fetch_lwip.sh has fetched them.
if [ -e build/lwip/src/include/lwip/init.h ]; then
    mkdir "$directory/meshvpn-$version/build"
    cp -R build/lwip "$directory/meshvpn-$version/build/lwip"
fi
cd "$directory/meshvpn-$version"
dpkg-buildpackage --build=binary --no-sign --jobs="${2:-$(nproc)}"
cd "$directory"
rm -rf "meshvpn-$version"
