#!/bin/sh
# clang-format (14, .clang-format) changes nothing. Prints the files that it would change.
set -u
cd "$(dirname "$0")/.." || exit 1
formatter=clang-format-14
command -v "$formatter" >/dev/null || formatter=clang-format
# Many files a process: starting it costs more than most files do.
said=$(find src include tests fuzz bench tools -name '*.[ch]' 2>/dev/null | sort |
    xargs -n 40 "$formatter" --dry-run -Werror --ferror-limit=0 2>&1)
failed=$?
bad=$(echo "$said" | sed -n 's/^\([^ :]*\.[ch]\):[0-9]*:[0-9]*: error: .*/\1/p' | sort -u)
if [ -n "$bad" ]; then
    echo "$bad" | sed 's/$/: not as clang-format writes it (clang-format -i)/'
    exit 1
fi
if [ "$failed" != 0 ]; then
    echo "$said"
    exit 1
fi
echo "all files are as clang-format writes them"
