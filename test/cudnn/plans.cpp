// plans.cpp: does the cuDNN that is installed take attention as attention_graph.h tells it, and does what it needs fit in the memory that a
// run sets apart? For GPUs that need not be here: the library chooses its engine, compiles the kernel and says what workspace it
// wants. (cuDNN, "Deviceless Ahead-of-time Compilation", since 9.8)
#include <dlfcn.h>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include "../../llmc/cuda/attention_graph.h"

using namespace attention_graph;

struct Gpu { const char* name; int version, multiprocessors, shared_bytes; };
constexpr Gpu GPUS[] = {{"H100", 900, 132, 232448}, {"A100", 800, 108, 166912}, {"RTX 4090", 890, 128, 101376}, {"B200", 1000, 148, 232448}, {"RTX 5090", 1200, 170, 101376}};

// As cuDNN itself writes down a GPU's properties; of these only compute capability, multiprocessors and shared memory differ here.
static std::string properties(const Gpu& gpu) {
    char text[1024];
    snprintf(text, sizeof text,
             "{\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],\"regsPerBlock\":65536,\"multiProcessorCount\":%d,\"smClockRateKHz\":1980000,"
             "\"memClockRateKHz\":2619000,\"memoryBusWidth\":5120,\"l2CacheSize\":52428800,\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,"
             "\"maxSharedMemoryPerBlockOptin\":%d,\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,\"pciDeviceId\":0,\"isTccDriver\":0,"
             "\"maxCtasPerSM\":32,\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,\"supportCoopLaunch\":1,\"totalGlobalMem\":85000000000,"
             "\"deviceName\":\"NVIDIA %s\",\"driverVer\":13000,\"cudaDeviceId\":0,\"deviceVer\":%d,\"runtimeVer\":13000,\"version\":1}",
             gpu.multiprocessors, gpu.shared_bytes, gpu.name, gpu.version);
    return text;
}

// Kernels are compiled by NVRTC, which may be older than the GPU.
static bool nvrtc_knows(const Gpu& gpu) {
    void* nvrtc = dlopen(("libnvrtc.so." + std::to_string(cudnnGetCudartVersion() / 1000)).c_str(), RTLD_LAZY);
    if (!nvrtc) return true;
    int count = 0;
    ((int (*)(int*))dlsym(nvrtc, "nvrtcGetNumSupportedArchs"))(&count);
    std::vector<int> known((size_t)count);
    ((int (*)(int*))dlsym(nvrtc, "nvrtcGetSupportedArchs"))(known.data());
    return std::find(known.begin(), known.end(), gpu.version / 10) != known.end();
}

static int engine_of(Builder& b, const Plan& plan) {
    Descriptor config = b.make(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR), engine = b.make(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    int64_t one = 0, number = -1;
    cudnnBackendGetAttribute(plan.plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &one, &config);
    cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &one, &engine);
    cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &one, &number);
    return (int)number;
}

static int g_plans, g_failed;
static void look(const Gpu& gpu, const Problem& p, bool there_is_one = true) {
    const auto start = std::chrono::steady_clock::now();
    Builder b;
    const std::string json = properties(gpu);
    Descriptor device = b.make(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    b.set(device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, json.data(), (int64_t)json.size());
    b.finalize(device);
    const Plan plan = make_plan(b, p, nullptr, device);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const bool found = plan.plan && b.refused.empty(), fits = plan.workspace <= (int64_t)workspace_bytes(p);
    const bool right = found == there_is_one && (found ? fits : !b.refused.empty());
    g_plans++, g_failed += !right;
    printf("%-7s %-9s B %2d, T %4d, %2d heads of %3d  %-20s ", right ? "ok" : "FAILED", gpu.name, (int)p.B, (int)p.T, (int)p.NH, (int)p.HS,
           !p.backward ? "forward" : p.sums_in_order ? "backward in order" : "backward, any order");
    if (found) printf("engine %d  %10lld of %10zu bytes  %.2f s\n", engine_of(b, plan), (long long)plan.workspace, workspace_bytes(p), seconds);
    else printf("%.100s\n", b.refused.c_str());
}
static void forward_and_both_backwards(const Gpu& gpu, Problem p) {
    look(gpu, p);
    p.backward = true, look(gpu, p);
    p.sums_in_order = false, look(gpu, p);
}

int main() {
    const size_t version = cudnnGetVersion();
    printf("cuDNN %zu.%zu.%zu\n", version / 10000, version / 100 % 100, version % 100);
    if (version < 90800) { printf("skipped: it builds no plans for GPUs that are not here; 9.8 and newer do\n"); return 0; }
    // a last tile that is not full: in 9.16 and newer, as attention_cudnn.cuh does not ask older ones. Not B = T = NH = 1: 9.28 crashes
    const bool any_T = version >= 91600;
    const Gpu &h100 = GPUS[0], &a100 = GPUS[1];
    for (int NH : {12, 16, 20, 25}) forward_and_both_backwards(h100, {8, 1024, NH, 64});
    for (Problem p : {Problem{16, 1024, 25, 64}, {4, 64, 12, 64}, {2, 1024, 30, 96}, {1, 256, 4, 8}, {1, 256, 2, 256}}) forward_and_both_backwards(h100, p);
    if (any_T) forward_and_both_backwards(h100, {1, 1000, 5, 80});
    for (Problem p : {Problem{1, 256, 4, 80}, {1, 256, 4, 24}}) forward_and_both_backwards(a100, p);
    for (const Gpu& gpu : GPUS) {
        if (!nvrtc_knows(gpu)) { printf("skipped %s: NVRTC has no sm_%d\n", gpu.name, gpu.version / 10); continue; }
        if (&gpu != &h100) forward_and_both_backwards(gpu, {8, 1024, 12, 64});
        forward_and_both_backwards(gpu, {2, 2048, 16, 128});
        if (any_T) for (int T : {100, 1}) forward_and_both_backwards(gpu, {2, T, 3, 64});
    }
    // what ours does instead: heads not of 16 bytes, backwards of heads above 256, on sm_80 above 128
    for (bool backward : {false, true}) for (int HS : {4, 12}) look(h100, {1, 256, 4, HS, backward}, false);
    look(h100, {1, 256, 4, 512, true}, false);
    look(a100, {1, 256, 4, 256, true}, false);
    printf("%d plans, %d failed\n", g_plans, g_failed);
    return g_failed ? 1 : 0;
}
