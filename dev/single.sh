#!/bin/sh
# single.sh: writes the whole CPU trainer as one file: every #include "..." replaced, once, by the file it names.
#     dev/single.sh train_gpt2.cu > build/train_gpt2_single.cpp
set -eu
cd "$(dirname "$0")/.."
awk '
function folder(path) { return match(path, /.*\//) ? substr(path, 1, RLENGTH) : "" }
function tidy(path) { while (sub(/[^\/]+\/\.\.\//, "", path)) {} return path }
function put(path,    line, name) {
    if (path in seen) return
    seen[path] = 1
    while ((status = (getline line < path)) > 0) {
        if (line ~ /^#pragma once/) continue
        if (line ~ /^ *# *include "/) {
            name = line; sub(/^[^"]*"/, "", name); sub(/".*/, "", name)
            if (name ~ /^cuda\//) print "#error \"this is the CPU trainer: the CUDA one builds from the repository\""
            else put(tidy(folder(path) name))
        } else print line
    }
    if (status < 0) { print path ": cannot read" > "/dev/stderr"; exit 1 }
    close(path)
}
BEGIN { print "// The whole CPU trainer in one file, made by dev/single.sh:  c++ -std=c++20 -O3 -march=native -pthread"; put(ARGV[1]) }
' "$1"
