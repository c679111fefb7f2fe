// device_test.h: what the tests of CUDA layers share: the CPU backend beside them as `cpu::`, buffers on the device with
// margins, and many schedules. The same tests run on a GPU (make test-gpu) and on a CPU (make test-emu).
#pragma once
// what llmc/cpu includes comes first, outside of the namespace
#include <sys/mman.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cfloat>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>
#include "../../llmc/base/bf16.h"
#include "../../llmc/base/check.h"
#include "../../llmc/base/heads.h"
#include "../../llmc/layers/adamw.h"
#include "../../llmc/layers/arguments.h"
#include "../../llmc/layers/gelu.h"
#include "../../llmc/layers/kernel_options.h"
#include "../../llmc/layers/muon.h"
#include "../../llmc/layers/step_stats.h"
#include "../../llmc/base/rng.h"
#include "../../llmc/base/threads.h"
namespace cpu {
#include "../../llmc/cpu/device.h"
#include "../../llmc/cpu/vec.h"
}
#include "../../llmc/cuda/device.cuh"
#include "../layers.h"
#if __has_include(<cuda_on_cpu.h>)
#include <cuda_on_cpu.h>
constexpr bool ON_CPU = true;
inline void set_schedule(int n) { emu::set_seed((uint64_t)n); }
#else
constexpr bool ON_CPU = false;
inline void set_schedule(int) {}
#define EMU_OWN  // where accesses are watched, not those of the oracle that has it
#endif

// A buffer on the device between two margins; everything that nobody has written is 0xff, a NaN that no arithmetic makes.
template <class X> class OnDevice {
public:
    static constexpr size_t MARGIN = 256;  // bytes: keeps the alignment that rows of the arena have
    explicit OnDevice(size_t n) : size_(n), all_(n * sizeof(X) + 2 * MARGIN) {
        CUDA_CHECK(cudaMalloc((void**)&memory_, all_));
        CUDA_CHECK(cudaMemset(memory_, 0xff, all_));
        CUDA_CHECK(cudaDeviceSynchronize());  // streams that do not block do not wait for it
    }
    explicit OnDevice(const std::vector<X>& values) : OnDevice(values.size()) { set(values); }
    ~OnDevice() { cudaFree(memory_); }
    OnDevice(const OnDevice&) = delete;
    OnDevice& operator=(const OnDevice&) = delete;
    size_t size() const { return size_; }
    X* data() { return (X*)(memory_ + MARGIN); }
    void set(const std::vector<X>& values) {
        if (size_) CUDA_CHECK(cudaMemcpy(data(), values.data(), size_ * sizeof(X), cudaMemcpyHostToDevice));
        CUDA_CHECK(cudaDeviceSynchronize());
    }
    // Waits for all work, and fails the test if something was written beside the buffer.
    void check_margins() {
        unsigned char bytes[2 * MARGIN];
        CUDA_CHECK(cudaDeviceSynchronize());
        CUDA_CHECK(cudaMemcpy(bytes, memory_, MARGIN, cudaMemcpyDeviceToHost));
        CUDA_CHECK(cudaMemcpy(bytes + MARGIN, memory_ + all_ - MARGIN, MARGIN, cudaMemcpyDeviceToHost));
        for (unsigned char byte : bytes)
            if (byte != 0xff) { FAIL("a margin of a buffer of %zu elements was written", size_); break; }
    }
    std::vector<X> values() {
        check_margins();
        std::vector<X> x(size_);
        if (size_) CUDA_CHECK(cudaMemcpy((void*)x.data(), data(), size_ * sizeof(X), cudaMemcpyDeviceToHost));
        return x;
    }
    // As values(), of a buffer of which nothing may have been left out.
    std::vector<X> written() {
        std::vector<X> x = values();
        size_t missing = 0;
        for (const X& e : x) missing += Guarded<X>::poisoned(e);
        if (missing) FAIL("%zu of %zu elements were not written", missing, size_);
        return x;
    }

private:
    size_t size_, all_;
    char* memory_ = nullptr;
};

// A stream with a workspace of exactly as many bytes as a layer asks for.
struct TestStream {
    OnDevice<char> workspace;
    stream_t stream;
    explicit TestStream(size_t bytes = 0, bool tf32 = false) : workspace(bytes) {
        stream = open_stream({.workspace = bytes ? workspace.data() : nullptr, .workspace_bytes = bytes, .kernels = {.tf32 = tf32}});
    }
    ~TestStream() {
        workspace.check_margins();
        cudaStreamDestroy(stream.handle);
    }
    operator stream_t() const { return stream; }
};

// body() runs in many orders of threads, blocks and streams on a CPU (EMU_SCHEDULES of them, 20 unless told), three times on
// a GPU; what it returns, a vector, must have bitwise identical results each time. It is the vector of the last.
template <class Body> auto for_schedules(Body body) {
    const char* told = getenv("EMU_SCHEDULES");
    const int n = !ON_CPU ? 3 : told ? atoi(told) : 20;
    set_schedule(1);
    auto first = body();
    for (int i = 2; i <= n; i++) {
        set_schedule(i);
        auto again = body();
        if (!same_bits(first, again)) FAIL("schedule %d gives other bits than schedule 1", i);
    }
    return first;
}

// false and true; of {false, true} itself nvcc 13.0 says "unsupported aggregate constant" in some places.
inline std::vector<char> both() { return {0, 1}; }

// Whole numbers from low to high: sums of products of them are exact in any order, so results must be bit-equal.
template <class F> std::vector<F> small_integers(Random& random, size_t n, int low = -3, int high = 3) {
    std::vector<F> x(n);
    for (F& e : x) e = F((float)random.between(low, high));
    return x;
}

// As EXPECT_DIES, which forks; a child of fork() cannot use a GPU.
#define EXPECT_REFUSED(text, ...) do { if (ON_CPU) EXPECT_DIES(text, __VA_ARGS__); } while (0)
