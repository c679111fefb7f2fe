// plans.cpp: does the cuDNN that is installed take attention as attention_graph.h tells it, and does what it needs fit in the memory that a
// run sets apart? For GPUs that need not be here: the library chooses its engine, compiles the kernel and says what workspace it
// wants (cuDNN, "Deviceless Ahead-of-time Compilation", since 9.8). And does it refuse what it should (wrong_calls.h)?
//     build/cudnn/plans            all of that
//     build/cudnn/plans --here     builds the plans of the models on the GPU that is here, and runs them (here.h)
#include <dlfcn.h>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include "here.h"
#include "wrong_calls.h"

using namespace attention_graph;

struct Gpu { const char* name; int version, multiprocessors, shared_bytes; };
constexpr Gpu GPUS[] = {{"H100", 900, 132, 232448},  {"A100", 800, 108, 166912},  {"RTX 4090", 890, 128, 101376},
                        {"B200", 1000, 148, 232448}, {"B300", 1030, 148, 232448}, {"RTX 5090", 1200, 170, 101376}};

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

static int g_plans, g_failed;
static void look(const Gpu& gpu, const Problem& p, bool there_is_one = true) {
    const auto start = std::chrono::steady_clock::now();
    Problem asked = p;
    asked.T = std::max<int64_t>(p.T, 2);  // a run does not ask for one position either, but versions from 9.16 on can do it
    const std::string why = not_asked(asked, cudnnGetVersion());
    Builder b;
    Plan plan;
    if (why.empty()) plan = make_plan(b, p, nullptr, wrong_calls::device(b, properties(gpu)));
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const bool found = plan.plan && b.refused.empty(), fits = plan.workspace <= (int64_t)workspace_bytes(p);
    const bool right = !why.empty() || (found == there_is_one && (found ? fits : !b.refused.empty()));
    g_plans++, g_failed += !right;
    printf("%-7s %-9s %-53s ", right ? "ok" : "FAILED", gpu.name, here::text(p).c_str());
    if (found) printf("%10lld of %10zu bytes  %.2f s  %s\n", (long long)plan.workspace, workspace_bytes(p), seconds, here::engine_of(b, plan).c_str());
    else printf("%s%.100s\n", why.empty() ? "" : "ours: ", why.empty() ? b.refused.c_str() : why.c_str());
}
static void forward_and_both_backwards(const Gpu& gpu, Problem p) {
    look(gpu, p);
    p.backward = true;
    for (bool deterministic : {true, false}) p.dq = dq_accumulation(deterministic, gpu.version / 10, cudnnGetVersion()), look(gpu, p);
}

// Each in a process of its own: some mistakes end newer versions, and so are noticed. The statuses are those of CI's version.
static void ask_wrong_calls() {
    int refused = 0;
    for (const wrong_calls::WrongCall& call : wrong_calls::all(properties(GPUS[0]))) {
        if (call.answer == wrong_calls::TAKEN || call.answer == wrong_calls::CRASHES) continue;
        std::string answer;
        const int status = here::in_a_process([&] { printf("%s", wrong_calls::ask(call).c_str()); return 0; }, &answer);
        const bool right = status ? cudnnGetVersion() >= 92000 : cudnnGetVersion() / 100 == 919 ? answer == call.answer : answer != wrong_calls::TAKEN;
        if (!right) printf("FAILED  %s: %s, expected %s\n", call.name, status ? "a crash" : answer.c_str(), call.answer);
        refused++, g_plans++, g_failed += !right;
    }
    printf("%d wrong calls\n", refused);
}

int main(int argc, char** argv) {
    const size_t version = cudnnGetVersion();
    printf("cuDNN %zu.%zu.%zu\n", version / 10000, version / 100 % 100, version % 100);
    if (argc > 1 && std::string(argv[1]) == "--here") return here::run_models();
    if (version < 90800) { printf("skipped: it builds no plans for GPUs that are not here; 9.8 and newer do\n"); return 0; }
    // a last tile that is not full: in 9.16 and newer, as older ones are not asked. Not B = T = NH = 1: 9.28 crashes
    const bool any_T = version >= 91600;
    const Gpu &h100 = GPUS[0], &a100 = GPUS[1];
    for (int NH : {12, 16, 20, 25}) forward_and_both_backwards(h100, {8, 1024, NH, 64});
    for (Problem p : {Problem{16, 1024, 25, 64}, {4, 64, 12, 64}, {2, 1024, 30, 96}, {1, 256, 4, 8}, {1, 256, 2, 256}}) forward_and_both_backwards(h100, p);
    if (any_T) forward_and_both_backwards(h100, {1, 1000, 5, 80});
    // grouped queries: SmolLM2, Qwen3, Llama 3, one head of keys for all, a small head; a last tile that is not full
    using here::grouped;
    for (const Problem& p : {grouped(4, 1024, 9, 3, 64), grouped(2, 1024, 16, 8, 128), grouped(1, 2048, 32, 8, 64), grouped(2, 256, 4, 1, 64), grouped(2, 128, 6, 2, 8)})
        forward_and_both_backwards(h100, p);
    if (any_T) for (const Problem& p : {grouped(2, 100, 6, 2, 80), grouped(2, 100, 6, 2, 24)}) forward_and_both_backwards(h100, p);
    for (const Gpu& gpu : GPUS) if (&gpu != &h100 && gpu.version != 1030 && nvrtc_knows(gpu)) forward_and_both_backwards(gpu, grouped(2, 1024, 16, 8, 128));
    for (Problem p : {Problem{1, 256, 4, 80}, {1, 256, 4, 24}}) forward_and_both_backwards(a100, p);
    // windows
    for (const Gpu& gpu : GPUS) if (gpu.version != 1030 && nvrtc_knows(gpu)) for (int window : {1, 100, 512}) forward_and_both_backwards(gpu, {.B = 2, .T = 2048, .NH = 12, .HS = 64, .window = window});
    forward_and_both_backwards(h100, {.B = 1, .T = 1024, .NH = 6, .HS = 128, .NKV = 2, .window = 256});
    for (const Gpu& gpu : GPUS) {
        if (!nvrtc_knows(gpu)) { printf("skipped %s: NVRTC has no sm_%d\n", gpu.name, gpu.version / 10); continue; }
        if (&gpu != &h100) forward_and_both_backwards(gpu, {8, 1024, 12, 64});
        if (gpu.version == 1030) continue;  // as B200
        forward_and_both_backwards(gpu, {2, 2048, 16, 128});
        if (any_T) for (int T : {100, 1}) forward_and_both_backwards(gpu, {2, T, 3, 64});
    }
    // what ours does instead: heads not of 16 bytes, backwards of heads above 256, on sm_80 above 128
    for (bool backward : {false, true}) for (int HS : {4, 12}) look(h100, {1, 256, 4, HS, backward}, false);
    look(h100, {1, 256, 4, 512, true}, false);
    look(a100, {1, 256, 4, 256, true}, false);
    ask_wrong_calls();
    printf("%d plans and wrong calls, %d failed\n", g_plans, g_failed);
    return g_failed ? 1 : 0;
}
