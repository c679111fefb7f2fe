# gencode.awk: nvcc's -gencode options for GPUS; its input is nvcc --list-gpu-arch.
#     nvcc --list-gpu-arch | awk -v gpus="90 103" -v ours="80 86 89 90 100 120" -f dev/gencode.awk
# Code of 10.0 runs on 10.3, of the same major version, and not on 11.0 or 12.0; PTX of 10.0 is compiled by the driver for each later GPU (CUDA
# C++ Programming Guide, "Binary Compatibility", "PTX Compatibility"). So a GPU that this toolkit does not know gets the code of the
# nearest of ours of its major version, or else PTX alone. PTX stands beside all code, so that a GPU of a later day finds the nearest,
# with what that one can: PTX of 8.0 has no early launch. Both come from one run of the compiler.
BEGIN { split(ours, list, " "); for (i in list) our[list[i]] = 1 }
      { sub(/^compute_/, ""); knows[$0] = 1 }
END {
    n = split(gpus, gpu, " ")
    for (i = 1; i <= n; i++) {
        g = gpu[i]; best = ""
        for (k in knows) if (k in our && k + 0 <= g + 0 && k + 0 > best + 0) best = k
        if (g in knows || g !~ /^[0-9]+$/ || best == "") best = g  # 90a is not listed; what is older than all is nvcc's to refuse
        if (int(best / 10) == int(g / 10)) add("sm_", best)
        add("compute_", best)
    }
}
function add(kind, a) { if (!said[kind a]++) printf "-gencode arch=compute_%s,code=%s%s ", a, kind, a }
