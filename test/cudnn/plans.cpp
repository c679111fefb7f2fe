// plans.cpp: does the cuDNN that is installed take attention as attention_graph.h tells it, and does what it needs fit in the memory that a
// run sets apart? For GPUs that need not be here: the library chooses its engine, compiles the kernel and says what workspace it
// wants. (cuDNN, "Deviceless Ahead-of-time Compilation", since 9.8)
#include <chrono>
#include <cstdio>
#include "../../llmc/cuda/attention_graph.h"

#if CUDNN_VERSION < 90800
int main() { printf("test-cudnn: skipped: cuDNN %d.%d builds no plans for GPUs that are not here; 9.8 and newer do\n", CUDNN_MAJOR, CUDNN_MINOR); }
#else
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

static int g_plans, g_failed;
static void look(const Gpu& gpu, const Problem& p, bool there_is_one = true) {
    const auto start = std::chrono::steady_clock::now();
    Builder b;
    const std::string json = properties(gpu);
    Descriptor device = b.make(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    b.set(device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, json.data(), (int64_t)json.size());
    b.finalize(device);
    const Plan plan = make_plan(b, p, nullptr, device);
    const bool found = plan.plan && b.refused.empty(), fits = plan.workspace <= (int64_t)workspace_bytes(p), right = found == there_is_one && (!found || fits);
    g_plans++, g_failed += !right;
    printf("%-7s %-9s B %d, T %4d, %2d heads of %3d  %-19s", right ? "ok" : "FAILED", gpu.name, (int)p.B, (int)p.T, (int)p.NH, (int)p.HS,
           !p.backward ? "forward" : p.sums_in_order ? "backward in order" : "backward, any order");
    if (found) printf("%12lld of %12zu bytes  %.2f s\n", (long long)plan.workspace, workspace_bytes(p), std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    else printf("%s\n", b.refused.c_str());
}

int main() {
    printf("cuDNN %zu.%zu.%zu\n", cudnnGetVersion() / 10000, cudnnGetVersion() / 100 % 100, cudnnGetVersion() % 100);
    const auto three = [](const Gpu& gpu, Problem p) {
        look(gpu, p);
        p.backward = true, look(gpu, p);
        p.sums_in_order = false, look(gpu, p);
    };
    for (const Gpu& gpu : GPUS) three(gpu, {8, 1024, 12, 64});
    for (Problem p : {Problem{16, 1024, 25, 64}, {4, 64, 12, 64}, {2, 2048, 16, 128}, {2, 1024, 30, 96}, {1, 256, 4, 8}, {1, 256, 2, 256}}) three(GPUS[0], p);
    // a last tile that is not full: in 9.16 and newer (attention_cudnn.cuh does not ask older ones)
    if (cudnnGetVersion() >= 91600) for (Problem p : {Problem{2, 100, 3, 64}, {2, 1, 3, 64}, {1, 1000, 5, 80}}) three(GPUS[0], p);
    for (Problem p : {Problem{2, 2048, 16, 128}, {1, 256, 4, 80}, {1, 256, 4, 24}}) three(GPUS[1], p);
    for (int HS : {4, 12, 512}) look(GPUS[0], {1, 256, 4, HS, true}, false);
    printf("%d plans, %d failed\n", g_plans, g_failed);
    return g_failed ? 1 : 0;
}
#endif
