// Kernels that are launched: early, with attributes, shared memory and pointers that fit or do not.
#include <ptx_on_cpu.h>
#include "runtime_test.h"

__global__ void never_waits(int* x) { x[threadIdx.x] = 3; }
__global__ void waits_at_once(int* x) { griddepcontrol_wait(), x[threadIdx.x] = 4; }
// Only a kernel right behind a kernel may be early, in a graph as in a stream.
TEST(kernels_are_early_behind_kernels_only) {
    Buffer<int> x(std::vector<int>(32, 0)), y(std::vector<int>(32, 0));
    cudaStream_t s = new_stream();
    cudaEvent_t e = new_event();
    const char* text = "kernel was launched early";
    auto in_stream = [&](auto work) { work(); OK(run_programmatic(never_waits, 1, 1, s, x.p)); };
    auto in_graph = [&](auto work) {
        cudaGraphExec_t exec = executable(s, [&] { in_stream(work); });
        OK(cudaGraphLaunch(exec, s));
    };
    auto late = [&](const char* what, auto work) {
        quietly([&] { in_stream(work); OK(cudaStreamSynchronize(s)); if (g_failures) printf("%s, in a stream\n", what); });
        quietly([&] { in_graph(work); OK(cudaStreamSynchronize(s)); if (g_failures) printf("%s, in a graph\n", what); });
    };
    auto early = [&](const char* what, auto work) { expect_found(what, text, [&] { in_stream(work); }), expect_found(what, text, [&] { in_graph(work); }); };
    auto kernel = [&] { OK(run(one_more, 1, 32, 0, s, y.p)); };
    quietly([&] { in_graph([] {}); OK(cudaStreamSynchronize(s)); });  // the first of a graph is late, that of a stream taken to be early
    expect_found("behind nothing", text, [&] { in_stream([] {}); });
    late("behind a memset", [&] { kernel(); OK(cudaMemsetAsync(y.p, 0, 128, s)); });
    late("behind a copy", [&] { kernel(); OK(cudaMemcpyAsync(x.p, y.p, 128, cudaMemcpyDeviceToDevice, s)); });
    late("behind a host function", [&] { kernel(); OK(cudaLaunchHostFunc(s, nothing, nullptr)); });
    early("behind a kernel", kernel);
    early("behind a kernel and an event", [&] { kernel(); OK(cudaEventRecord(e, s)); });
    OK(run(one_more, 1, 32, 0, s, y.p)); OK(run_programmatic(waits_at_once, 1, 32, s, x.p)); OK(cudaStreamSynchronize(s));
    EXPECT_EQ(x.values()[5], 4);
    if (emu::watched()) {  // what it may read before it waits: behind a copy everything, behind a kernel nothing
        const char* before = "before cudaGridDependencySynchronize";
        expect_found("reads early", before, [&] { kernel(); OK(run_programmatic(one_more, 1, 32, s, x.p)); });
        quietly([&] { kernel(); OK(cudaMemsetAsync(x.p, 0, 128, s)); OK(run_programmatic(one_more, 1, 32, s, x.p)); OK(cudaStreamSynchronize(s)); });
    }
}

TEST(kernels_that_are_not_to_run) {
    quietly([] {
        Buffer<int> x(std::vector<int>(64, 0));
        std::string asked;
        emu::runs = [&](const emu::Asked& a) {
            const bool its = a.arguments.size() == 1 && *(int* const*)a.arguments[0].value == x.p;
            for (const std::string& word : {a.name, std::to_string(a.blocks.x), std::to_string(a.threads.x), std::to_string(a.shared_bytes), std::string(its ? "x;" : "not x;")}) asked += word + " ";
            return a.blocks.x == 1;
        };
        cudaStream_t s = new_stream();
        OK(run(one_more, 2, 32, 512, s, x.p)); OK(run(one_more, 1, 32, 0, s, x.p)); OK(cudaStreamSynchronize(s));
        emu::runs = nullptr;
        OK(run(one_more, 1, 32, 0, s, x.p)); OK(cudaStreamSynchronize(s));
        EXPECT_STR(asked, "one_more 2 32 512 x; one_more 1 32 0 x; ");
        EXPECT_EQ(x.values()[5], 2);
    });
}

TEST(launches_with_attributes_that_do_not_fit) {
    quietly([] {
        Buffer<int> x(std::vector<int>(32, 0));
        auto launch = [&](std::vector<cudaLaunchAttribute> attributes, unsigned n) {
            cudaLaunchConfig_t config = {};
            config.gridDim = 2, config.blockDim = 32, config.attrs = attributes.data(), config.numAttrs = n;
            if (attributes.empty()) config.attrs = nullptr;
            return cudaLaunchKernelEx(&config, one_more, x.p);
        };
        auto attribute = [](cudaLaunchAttributeID id, int value = 1) { cudaLaunchAttribute a = {}; a.id = id, a.val.priority = value; return a; };
        auto cluster = [](unsigned n) { cudaLaunchAttribute a = {}; a.id = cudaLaunchAttributeClusterDimension, a.val.clusterDim = {n, 1, 1}; return a; };
        const cudaLaunchAttribute early = attribute(cudaLaunchAttributeProgrammaticStreamSerialization);
        OK(launch({early, attribute(cudaLaunchAttributePriority)}, 2));
        REFUSED(launch({}, 1), cudaErrorInvalidValue);
        REFUSED(launch({early, early}, 2), cudaErrorInvalidValue);
        REFUSED(launch({attribute(cudaLaunchAttributeSynchronizationPolicy)}, 1), cudaErrorInvalidValue);  // is one of streams
        REFUSED(launch({attribute((cudaLaunchAttributeID)15)}, 1), cudaErrorInvalidValue);
        REFUSED(launch({cluster(3)}, 1), cudaErrorInvalidValue); OK(launch({cluster(1)}, 1));
        REFUSED(launch({cluster(2)}, 1), cudaErrorNotSupported);  // by the emulator
        REFUSED(launch({attribute(cudaLaunchAttributeCooperative)}, 1), cudaErrorNotSupported);
        void (*none)(int*) = nullptr;
        REFUSED(run(none, 1, 1, 0, nullptr, x.p), cudaErrorInvalidDeviceFunction);
    });
}
__global__ void with_shared(int* x) { x[threadIdx.x] = dynamic_shared()[0]; }
TEST(launches_with_shared_memory_and_attributes_of_kernels) {
    quietly([] {
        Buffer<int> x(std::vector<int>(32, 0));
        const void* kernel = (const void*)with_shared;
        const cudaFuncAttribute most = cudaFuncAttributeMaxDynamicSharedMemorySize;
        int blocks = -1;
        OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, 128, 100 << 10)); EXPECT_EQ(blocks, 0);  // it must be asked for
        OK(cudaFuncSetAttribute(kernel, most, 227 << 10)); REFUSED(cudaFuncSetAttribute(kernel, most, (227 << 10) + 1), cudaErrorInvalidValue);
        REFUSED(cudaFuncSetAttribute(kernel, most, -1), cudaErrorInvalidValue);
        OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, 128, 100 << 10)); EXPECT_EQ(blocks, 2);
        OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, 33, 0)); EXPECT_EQ(blocks, 32);     // by blocks
        OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, 65, 0)); EXPECT_EQ(blocks, 21);     // whole warps
        OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, 1025, 0)); EXPECT_EQ(blocks, 0);
        OK(cudaFuncSetAttribute(kernel, most, 1000)); OK(run(with_shared, 1, 1, 1000, nullptr, x.p));
        REFUSED(run(with_shared, 1, 1, 1001, nullptr, x.p), cudaErrorInvalidValue);  // a lower limit is one too
        REFUSED(cudaFuncSetAttribute(kernel, (cudaFuncAttribute)3, 1), cudaErrorInvalidValue);
        REFUSED(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, 101), cudaErrorInvalidValue);
        OK(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutDefault));
        const void* none = nullptr;
        cudaFuncAttributes a = {};
        REFUSED(cudaFuncGetAttributes(&a, none), cudaErrorInvalidDeviceFunction); REFUSED(cudaFuncSetAttribute(none, most, 1), cudaErrorInvalidDeviceFunction);
    });
}
TEST(launches_with_pointers_of_the_host) {
    Buffer<int> x(std::vector<int>(32, 0));
    int *pinned = nullptr, pageable[32] = {};
    OK(cudaMallocHost(&pinned, 128));
    for (int i = 0; i < 32; i++) pinned[i] = i;
    OK(run(one_more, 1, 32, 0, nullptr, pinned)); OK(cudaDeviceSynchronize());  // the device may use it
    EXPECT_EQ(pinned[7], 8);
    expect_found("pageable memory", "one_more: an argument points to memory of the host that is not pinned", [&] { OK(run(one_more, 1, 32, 0, nullptr, (int*)pageable)); });
    OK(cudaFreeHost(pinned));
}
TEST(launches_that_do_not_compile) {
    struct Odd { char c[3]; };
    EXPECT_EQ((emu::parameter_bytes<int, double, Odd, int*>()), 32u);  // 4, 8 at 8, 3 at 16, 8 at 24
    FILE* file = fopen(BUILD "/tmp/parameters.cu", "w");
    if (!file) SKIP("cannot write to " BUILD "/tmp");
    fputs("#include <cuda_runtime.h>\n#include <string>\n"
          "struct Large { int x[8191]; }; struct Deep { Deep(); Deep(const Deep&); };\n"
          "__global__ void a(int&) {} __global__ void b(Large, int) {} __global__ void c(Deep) {} __global__ void fits(Large) {}\n"
          "int main() { cudaLaunchConfig_t f = {}; int n = 0; Large l; Deep d; cudaDeviceProp p;\n"
          "cudaLaunchKernelEx(&f, fits, l); cudaLaunchKernelEx(&f, a, n); cudaLaunchKernelEx(&f, b, l, 1); cudaLaunchKernelEx(&f, c, d); return p.clockRate + p.memoryClockRate; }\n", file), fclose(file);
    const std::string said = run_command(COMPILER " -std=c++20 -fsyntax-only -Itest/emu -x c++ " BUILD "/tmp/parameters.cu").output;
    for (const char* text : {"parameters are not references", "parameters are too large", "copied as bytes", "clockRate", "memoryClockRate"})
        if (said.find(text) == said.npos) FAIL("'%s' is not in what the compiler says:\n%s", text, said.c_str());
}
