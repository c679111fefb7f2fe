#!/bin/sh
# nvcc_check.sh NVCC FLAGS ARCH...: compiles the CUDA trainer for each architecture and fails on a warning or a spilled register.
# Prints the registers, shared memory and spills of each kernel; for sm_90 and newer, where nvdisasm is beside nvcc or in PATH, also what build/sass
# (dev/sass.cpp) says of its machine code: a kernel that does not wait before it touches global memory fails.
set -eu
cd "$(dirname "$0")/.."
nvcc=$1 flags=$2; shift 2
[ -n "$nvcc" ] || { echo "nvcc_check: no nvcc here: nothing was compiled"; exit 0; }
nvdisasm=$(command -v "$(dirname "$(command -v "$nvcc")")/nvdisasm" || command -v nvdisasm || true)
mkdir -p build/nvcc
what=-c  # the host's code too, once: it is the same one for all
for arch in "$@"; do
    start=$(date +%s)
    $nvcc $flags -Xptxas -v -gencode arch=compute_$arch,code=sm_$arch \
        $what train_gpt2.cu -o build/nvcc/$arch.o 2> build/nvcc/$arch.log || { cat build/nvcc/$arch.log; exit 1; }
    if grep -i 'warning' build/nvcc/$arch.log; then echo "nvcc_check: sm_$arch: a warning"; exit 1; fi
    c++filt < build/nvcc/$arch.log | awk -v arch=$arch '
        /Compiling entry function/ { name = $0; sub(/.*function ./, "", name); sub(/. for .sm_.*/, "", name); sub(/^void /, "", name); sub(/\(.*/, "", name) }
        /spill stores/ { spills = $5 + $9 }
        /Used .* registers/ {
            match($0, /Used [0-9]+/); registers = substr($0, RSTART + 5, RLENGTH - 5)
            shared = 0; if (match($0, /[0-9]+ bytes smem/)) shared = substr($0, RSTART, RLENGTH) + 0
            printf "sm_%s  %3d registers  %6d B shared  %3d B spilled  %s\n", arch, registers, shared, spills, name
            kernels++; if (spills > 0) bad++
        }
        END { if (!kernels || bad) { printf "nvcc_check: sm_%s: %d kernels, %d of them spill\n", arch, kernels, bad; exit 1 } }'
    if [ "$arch" -ge 90 ] && [ -n "$nvdisasm" ]; then
        "$nvdisasm" -c build/nvcc/$arch.o | build/sass $arch "$(grep -c 'Compiling entry function' build/nvcc/$arch.log)"
    elif [ "$arch" -ge 90 ]; then
        echo "sm_$arch: machine code: skipped: no nvdisasm beside nvcc or in PATH"
    fi
    what=-cubin
    echo "sm_$arch: compiled in $(($(date +%s) - start)) s, no warning, no spill"
done
