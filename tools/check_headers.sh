#!/bin/sh
# Every header compiles alone, and twice (its guard works). Prints the failing ones; exit code 1 if any.
#
#     check_headers.sh [COMPILER]
set -u
cd "$(dirname "$0")/.." || exit 1
CC=${1:-gcc}
flags="-std=c17 -D_GNU_SOURCE -fsyntax-only -Wall -Wextra -Wpedantic -Werror -Wno-unused-function -Isrc -Iinclude"
for package in libsodium libcrypto libuv jansson libconfuse libmnl cmocka; do
    flags="$flags $(pkg-config --cflags "$package" 2>/dev/null)"
done
for blake3 in /usr/share/cargo/registry/blake3-*/c; do
    flags="$flags -I$blake3"
done
export CC flags
# shellcheck disable=SC2016 # expands in the inner shell
find src include -name '*.h' 2>/dev/null | sort | xargs -P 2 -I{} sh -c '
    # shellcheck disable=SC2086 # words
    header=${1#src/} && header=${header#include/}
    printf "#include \"%s\"\n#include \"%s\"\ntypedef int alone;\n" "$header" "$header" |
        $CC $flags -x c - 2>&1 | sed "s|^|$1: |" | grep . && exit 1
    exit 0' sh {}
code=$?
[ "$code" = 0 ] && echo "$(find src include -name '*.h' 2>/dev/null | wc -l) headers compile alone"
exit $((code != 0))
