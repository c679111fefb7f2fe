// cpu_features.h: whether this CPU has what the compiler was allowed to use (-march=native). A program that was built on another machine would
// die of SIGILL, somewhere; this one says why, before its first vector instruction. To include it is enough.
#pragma once
#include <unistd.h>
#include <cstddef>

#if defined(__x86_64__) && defined(__GNUC__)
namespace cpu_features_detail {
// One write, as stdio may be compiled with vector instructions too.
[[gnu::target("arch=x86-64,no-avx,no-bmi,no-bmi2"), gnu::noinline]] inline void refuse(const char* feature) {
    char line[300] = "error: this CPU has no ", *end = line;
    const char* rest = ", which this program was compiled to use: build it on this machine (make clean; make), or for any CPU (make CXXFLAGS=-O2)\n";
    while (*end) end++;
    while (*feature) *end++ = *feature++;
    while (*rest) *end++ = *rest++;
    const ssize_t written = write(STDERR_FILENO, line, (size_t)(end - line));
    (void)written;
    _exit(1);
}

// A macro that the compiler defines for a feature is 1; the name of one that it does not define stays as it is.
#define LLMC_TEXT(x) #x
#define LLMC_NEEDS(feature, macro) if (LLMC_TEXT(macro)[0] == '1' && !__builtin_cpu_supports(feature)) refuse(feature);

#if !defined(__clang__) && __GNUC__ >= 12  // others know fewer names
#define LLMC_NEEDS_OF_GCC LLMC_NEEDS
#else
#define LLMC_NEEDS_OF_GCC(feature, macro)
#endif

// Before the constructors of all other objects, which the compiler may have vectorised.
[[gnu::target("arch=x86-64,no-avx,no-bmi,no-bmi2"), gnu::constructor(101)]] static void check() {
    __builtin_cpu_init();
    LLMC_NEEDS("sse4.2", __SSE4_2__) LLMC_NEEDS("popcnt", __POPCNT__) LLMC_NEEDS("fma4", __FMA4__)
    LLMC_NEEDS("avx", __AVX__) LLMC_NEEDS("avx2", __AVX2__) LLMC_NEEDS("fma", __FMA__) LLMC_NEEDS("bmi", __BMI__) LLMC_NEEDS("bmi2", __BMI2__)
    LLMC_NEEDS("avx512f", __AVX512F__) LLMC_NEEDS("avx512cd", __AVX512CD__) LLMC_NEEDS("avx512dq", __AVX512DQ__) LLMC_NEEDS("avx512bw", __AVX512BW__)
    LLMC_NEEDS("avx512vl", __AVX512VL__) LLMC_NEEDS("avx512vbmi", __AVX512VBMI__) LLMC_NEEDS("avx512ifma", __AVX512IFMA__)
    LLMC_NEEDS("avx512vnni", __AVX512VNNI__) LLMC_NEEDS("avx512bf16", __AVX512BF16__)
    LLMC_NEEDS_OF_GCC("avx512fp16", __AVX512FP16__) LLMC_NEEDS_OF_GCC("amx-tile", __AMX_TILE__) LLMC_NEEDS_OF_GCC("amx-bf16", __AMX_BF16__)
}
}  // namespace cpu_features_detail
#endif
