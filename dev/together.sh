#!/bin/sh
# together.sh FILE...: files of tests as one to compile: what they include is read, instantiated and optimised once. Each is in a namespace of its own.
set -eu
cd "$(dirname "$0")/.."
! grep -n __BASE_FILE__ "$@" test/*.h test/*/*.h >&2 || { echo "together.sh: __BASE_FILE__ would be the name of all files together" >&2; exit 1; }
# headers beside them that need something of who includes them, SCRATCH, are read in the namespace of each
theirs=$(grep -l '^extern const .* SCRATCH;' test/*/*.h)
# those of them that FILE includes
theirs_of() {
    for header in $theirs; do
        [ "$(dirname "$header")" != "$(dirname "$1")" ] || ! grep -qxF "#include \"$(basename "$header")\"" "$1" || echo "$header"
    done
}
# shellcheck disable=SC2046  # names without blanks
all="$(for file in "$@"; do theirs_of "$file"; done | sort -u) $*"
# 1. what any of them includes, once; what they include in a namespace of the CPU's, behind it
# shellcheck disable=SC2086
awk -v theirs=" $(echo $theirs) " '
    FNR == 1 { folder = FILENAME; sub(/[^\/]*$/, "", folder); cpu = 0 }
    /^namespace cpu \{/ { cpu = 1 }
    /^}/ { cpu = 0 }
    /^#define LLMC_NO_MAIN/ && !seen[$0]++ { print }
    /^#include / {
        line = $1 " " $2
        if ($2 ~ /^"/) {
            path = folder substr($2, 2, length($2) - 2)
            while (sub(/[^\/.]+\/\.\.\//, "", path)) {}
            if (index(theirs, " " path " ")) next
            line = "#include \"" path "\""
        }
        if (seen[line]++) next
        if (cpu) of_cpu = of_cpu line "\n"
        else print line
    }
    END { if (of_cpu) printf "namespace cpu {\n%s}\n", of_cpu }' $all
# 2. their text, without what it includes; a test opens `namespace cpu` for that, and its cpu::x is found all the same
text() {
    printf '#line 1 "%s"\n' "$1"
    sed -E 's/^#(include|define LLMC_NO_MAIN) .*//; s/^#(define LLMC_NO_MAIN|pragma once)$//' "$1"
}
for file in "$@"; do
    name=$(basename "$file"); name=${name%.*}
    grep -q '^namespace cpu {' "$file" && around='namespace cpu { using namespace ::cpu; }' || around=
    printf 'namespace in_%s { %s\n' "$name" "$around"
    for header in $(theirs_of "$file"); do text "$header"; done
    text "$file"
    echo "}"
done
