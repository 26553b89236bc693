#!/bin/sh
# tools/one_object.sh OUTPUT.a PATTERN COMPILER... -- FIRST.a LIBRARY.a...: what FIRST needs of the libraries as one object in
# one archive, of which only the names that match PATTERN can be linked with.
set -eu
output=$1
pattern=$2
shift 2
compiler=
while [ "$1" != -- ]; do
    compiler="$compiler $1"
    shift
done
shift
first=$1
shift
object=${output%.a}.o
# shellcheck disable=SC2086 # words
$compiler -nostdlib -r -o "$object" -Wl,--whole-archive "$first" -Wl,--no-whole-archive -Wl,--start-group "$@" -Wl,--end-group
objcopy --wildcard --keep-global-symbol="$pattern" "$object"
rm -f "$output"
ar rcsD "$output" "$object"
rm "$object"
