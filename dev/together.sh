#!/bin/sh
# together.sh FILE...: files of tests as one to compile: what they include is read, instantiated and optimised once. Each is in a namespace of its own.
set -eu
cd "$(dirname "$0")/.."
# 1. what any of them includes, once; what they include in a namespace of the CPU's, behind it
awk '
    FNR == 1 { folder = FILENAME; sub(/[^\/]*$/, "", folder); cpu = 0 }
    /^namespace cpu \{/ { cpu = 1 }
    /^}/ { cpu = 0 }
    /^#define LLMC_NO_MAIN/ && !seen[$0]++ { print }
    /^#include / {
        line = $1 " " $2
        if ($2 ~ /^"/) {
            path = folder substr($2, 2, length($2) - 2)
            while (sub(/[^\/.]+\/\.\.\//, "", path)) {}
            line = "#include \"" path "\""
        }
        if (seen[line]++) next
        if (cpu) of_cpu = of_cpu line "\n"
        else print line
    }
    END { if (of_cpu) printf "namespace cpu {\n%s}\n", of_cpu }' "$@"
# 2. their text, without what it includes; a test opens `namespace cpu` for that, and its cpu::x is found all the same
for file in "$@"; do
    name=$(basename "$file"); name=${name%.*}
    grep -q '^namespace cpu {' "$file" && around='namespace cpu { using namespace ::cpu; }' || around=
    printf 'namespace in_%s { %s\n#line 1 "%s"\n' "$name" "$around" "$file"
    sed -E 's/^#(include|define LLMC_NO_MAIN) .*//; s/^#define LLMC_NO_MAIN$//' "$file"
    echo "}"
done
