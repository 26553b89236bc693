#!/bin/sh
# clang-format (14, .clang-format) changes nothing. Prints the files that it would change.
set -u
cd "$(dirname "$0")/.." || exit 1
formatter=clang-format-14
command -v "$formatter" >/dev/null || formatter=clang-format
bad=$(find src include tests fuzz bench tools -name '*.[ch]' 2>/dev/null | sort | while read -r file; do
    "$formatter" --dry-run -Werror "$file" >/dev/null 2>&1 || echo "$file"
done)
if [ -n "$bad" ]; then
    echo "$bad" | sed 's/$/: not as clang-format writes it (clang-format -i)/'
    exit 1
fi
echo "all files are as clang-format writes them"
