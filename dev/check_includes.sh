#!/bin/sh
# check_includes.sh: who may include whom. Folders have levels: an include points to the same folder or to a lower
# level, never up, and never round in a circle. `make check-includes`
set -eu
cd "$(dirname "$0")/.."
sources=$(git ls-files 2>/dev/null | grep -E '\.(h|cuh|cu|cpp)$' || find train_gpt2.cu llmc dev test -name '*.h' -o -name '*.cuh' -o -name '*.cu' -o -name '*.cpp')
# shellcheck disable=SC2086  # no path here has a blank
awk '
BEGIN {
    n = split("base layers io tokenizer data model comm train", folders, " ")
    split("1 2 3 3 4 5 5 6", levels, " ")
    for (i = 1; i <= n; i++) level["llmc/" folders[i]] = levels[i]
    level["llmc/cpu"] = 4; level["llmc/cuda"] = 4; level["llmc"] = 4; level["."] = 7; level["dev"] = 8; level["test"] = 9
    for (i = 1; i < ARGC; i++) exists[ARGV[i]] = 1
}
# a layer is a file of both backends with the same name; device is what layers stand on
function is_layer(path,    name) {
    name = path; sub(/.*\//, "", name); sub(/\..*/, "", name)
    return name != "device" && ("llmc/cpu/" name ".h") in exists && ("llmc/cuda/" name ".cuh") in exists
}
function folder(path) { return match(path, /.*\//) ? substr(path, 1, RLENGTH - 1) : "." }
function top_folder(path,    d) { d = folder(path); while (!(d in level) && d ~ /\//) d = folder(d); return d }
function tidy(path) { while (sub(/[^\/]+\/\.\.\//, "", path)) {} return path }
function complain(where, what) { print where ": " what; failed = 1 }
FNR == 1 { depth = 0; bodies = 0 }
/^[ \t]*#[ \t]*include[ \t]+"/ {
    name = $0; sub(/^[^"]*"/, "", name); sub(/".*/, "", name)
    target = tidy((folder(FILENAME) == "." ? "" : folder(FILENAME) "/") name)
    where = FILENAME ":" FNR
    from = top_folder(FILENAME); to = top_folder(target)
    if (level[to] > level[from]) complain(where, to " is above " from)
    if (from == "llmc/cpu" && to == "llmc/cuda" || from == "llmc/cuda" && to == "llmc/cpu") complain(where, "the backends do not know each other")
    if (from ~ /^llmc\/(cpu|cuda)$/ && (to ~ /^llmc\/(tokenizer|data|comm)$/ || (to == "llmc/io" && from == "llmc/cpu"))) complain(where, "a layer stands on base and layers alone")
    if (from ~ /^llmc\/(cpu|cuda)$/ && to == from && FILENAME !~ /(backend|peak).cuh$/ && is_layer(target)) complain(where, "a layer never includes another layer")
    if (FILENAME ~ /^llmc|^train/) edges[FILENAME] = edges[FILENAME] " " target
    next
}
/^[ \t]*#[ \t]*include[ \t]+<(cuda|cublas|cudnn)/ && FILENAME ~ /^llmc/ && FILENAME !~ /^llmc\/cuda/ { complain(FILENAME ":" FNR, "CUDA is for llmc/cuda") }
/^[ \t]*#[ \t]*include[ \t]+<nccl/ && FILENAME ~ /^(llmc|train)/ && FILENAME != "llmc/comm/nccl.h" { complain(FILENAME ":" FNR, "NCCL is for llmc/comm/nccl.h") }
/^[ \t]*#[ \t]*include[ \t]+<immintrin/ && FILENAME ~ /^llmc/ && FILENAME !~ /^llmc\/cpu/ { complain(FILENAME ":" FNR, "vectors of a CPU are for llmc/cpu") }
# a brace opens a body unless its line names a namespace or a type; strings, characters and comments have no braces
FILENAME ~ /^(llmc|train)/ {
    line = $0; gsub(/\\./, "", line); gsub(/"[^"]*"/, "", line); gsub(/\047[^\047]*\047/, "", line); sub(/\/\/.*/, "", line)
    if (line ~ /^[ \t]*#[ \t]*(if|ifdef|ifndef|elif)/ && bodies > 0) complain(FILENAME ":" FNR, "no #if in a function body")
    if (line ~ /^[ \t]*#/) next
    outside = line ~ /(^|[^A-Za-z_])(namespace|struct|class|enum|union|extern)([^A-Za-z_]|$)/ && line !~ /\)[^;]*\{/
    count = split(line, c, "")
    for (i = 1; i <= count; i++) {
        if (c[i] == "{") { kind[++depth] = outside ? 0 : 1; bodies += kind[depth] }
        if (c[i] == "}" && depth > 0) bodies -= kind[depth--]
    }
}
# files on the way from `file` down; one that is met again below itself closes a circle
function visit(file,    list, n, i) {
    if (state[file] == 2) return
    if (state[file] == 1) { complain(file, "includes itself by way of others"); return }
    state[file] = 1
    n = split(edges[file], list, " ")
    for (i = 1; i <= n; i++) visit(list[i])
    state[file] = 2
}
END {
    for (file in edges) visit(file)
    exit failed
}' $sources && ok=1 || ok=0
# CUDA 12.4 cannot tell the type of {X{1}, {2}}: "cannot deduce type of range in range-based for"
# shellcheck disable=SC2046  # nor here
if grep -nE 'for \(.*[^:]: *\{ *[A-Za-z_:]+(<[^>]*>)?\{' $(echo "$sources" | grep -E '^(llmc|train_gpt2|test/cuda|test/[a-z]*\.h|dev/bench/(layers\.cpp|[a-z_]*\.h))'); then
    echo '    nvcc 12.4 wants a name before the list of a range-for: std::vector<X>{{1}, {2}}'; ok=0
fi
# what is written must be synced, and be seen by tests that let calls fail: not through buffers of stdio. A record of a rank's death is read by people alone
if grep -nE 'fopen\([^)]*"[wa+]|fopen\([^)]*"r\+|[^a-z_]ofstream|freopen|O_TMPFILE' $(echo "$sources" | grep -E '^(llmc|train_gpt2)' | grep -vE '^llmc/(comm/flight_recorder|train/log)\.h'); then
    echo '    files are written by llmc/io/files.h, or by open, write and fsync'; ok=0
fi
if grep -lE '\basm\b *(volatile)? *\(' llmc/cuda/* | grep -v ptx.cuh; then echo '    asm stands in ptx.cuh alone'; ok=0; fi
[ "$ok" = 1 ] && echo 'check-includes: every include points down'
[ "$ok" = 1 ]
