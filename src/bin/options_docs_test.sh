#!/bin/bash
# Manuals and completions that the build made: mandoc finds nothing to say about the manuals, the shells can read their
# completions, and bash and fish answer with them.
#
#     options_docs_test.sh DIRECTORY
set -u
dir=$(cd "$1" && pwd) || exit 1
failed=0

fail() {
    echo "options_docs_test: $*" >&2
    failed=1
}

home=$(mktemp -d) || exit 1 # fish writes there
trap 'rm -rf "$home"' EXIT
cd "$dir" || exit 1
shopt -s nullglob
manuals=(*.1 *.8)
[ "${#manuals[@]}" = 7 ] || fail "there are ${#manuals[@]} manuals, not 7"
command -v mandoc >/dev/null || fail "mandoc is missing (apt-get install mandoc)"
# A manual that another refers to need not be installed here; it must be one of ours.
while read -r line; do
    if [[ $line =~ "referenced manual not found: Xr "([a-z-]+)" "([18])$ ]]; then
        [ -e "${BASH_REMATCH[1]}.${BASH_REMATCH[2]}" ] || fail "$line"
    else
        fail "$line"
    fi
done < <(mandoc -Tlint "${manuals[@]}" 2>&1)
for option in --config-dir --control --count --interval --server; do
    mandoc -Tascii meshvpn.1 | sed "s/.\x08//g" | grep -qe "$option" || fail "meshvpn(1) lacks $option"
done
mandoc -Tascii meshvpn-exit-node.8 | sed "s/.\x08//g" | grep -qe '-c, --config FILE' || fail "meshvpn-exit-node(8) lacks -c"

for shell in bash zsh fish; do
    files=(*.bash)
    [ "$shell" = zsh ] && files=(_meshvpn*)
    [ "$shell" = fish ] && files=(*.fish)
    [ "${#files[@]}" = 7 ] || fail "there are ${#files[@]} completions for $shell, not 7"
    if ! command -v "$shell" >/dev/null; then
        echo "options_docs_test: $shell is not installed: its completions are not read"
        continue
    fi
    for file in "${files[@]}"; do
        "$shell" -n "$file" || fail "$shell cannot read $file"
    done
done

# in_bash WANTED PROGRAM WORD...: the last word is completed so
in_bash() {
    local wanted=$1 got
    shift
    # shellcheck disable=SC2016 # expands in the inner shell
    got=$(bash -c 'source "$1.bash"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
        "_${1//-/_}"; echo "${COMPREPLY[*]}"' - "$1" "$@" 2>&1 | tail -1)
    [ "$got" = "$wanted" ] || fail "bash completes '$*' with '$got', not '$wanted'"
}
in_bash "status" meshvpn st
in_bash "new" meshvpn circuit n
in_bash "--count --control" meshvpn ping --co
in_bash "relay exit client bootstrap discovery" meshvpn config check ""
in_bash "add-node" meshvpn-bootstrap add
in_bash "same-16 same-provider same-family" meshvpn-bootstrap init net --relax ""
in_bash "--cleanup" meshvpn-exit-node --cl
in_bash "" meshvpn-relay --cl
in_bash "" meshvpn ping --count ""

if command -v fish >/dev/null; then
    in_fish() {
        local wanted=$1 got
        got=$(HOME=$home fish --no-config -c "source $2.fish; complete -C '$3'" 2>&1 | cut -f 1 | paste -sd ' ')
        [ "$got" = "$wanted" ] || fail "fish completes '$3' with '$got', not '$wanted'"
    }
    in_fish "status" meshvpn "meshvpn st"
    in_fish "--control --count" meshvpn "meshvpn ping --co"
    in_fish "same-16 same-family same-provider" meshvpn-bootstrap "meshvpn-bootstrap init net --relax "
fi

# What the shells complete is what the program has.
for word in $(./meshvpn help | awk '/^  [a-z]/ { print $1 }' | sort -u); do
    grep -qw "$word" meshvpn.bash && grep -qw "$word" _meshvpn && grep -qw "$word" meshvpn.fish || fail "no shell completes $word"
done
[ "$failed" = 0 ] && echo passed
exit "$failed"
