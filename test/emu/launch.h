// launch.h: kernels, and what the device says of itself: that of a small Hopper.
#pragma once
#include <cxxabi.h>
#include <dlfcn.h>
#include <cstring>
#include <map>
#include <tuple>
#include "streams.h"

enum cudaLaunchAttributeID {
    cudaLaunchAttributeIgnore, cudaLaunchAttributeAccessPolicyWindow, cudaLaunchAttributeCooperative, cudaLaunchAttributeSynchronizationPolicy,
    cudaLaunchAttributeClusterDimension, cudaLaunchAttributeClusterSchedulingPolicyPreference, cudaLaunchAttributeProgrammaticStreamSerialization,
    cudaLaunchAttributeProgrammaticEvent, cudaLaunchAttributePriority };
union cudaLaunchAttributeValue {
    char pad[64];
    int cooperative, programmaticStreamSerializationAllowed, priority;
    struct { unsigned x, y, z; } clusterDim;
};
struct cudaLaunchAttribute { cudaLaunchAttributeID id; cudaLaunchAttributeValue val; };
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    cudaLaunchAttribute* attrs;
    unsigned numAttrs;
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8, cudaFuncAttributePreferredSharedMemoryCarveout = 9 };
struct cudaFuncAttributes {
    size_t sharedSizeBytes, constSizeBytes, localSizeBytes;
    int maxThreadsPerBlock, numRegs, ptxVersion, binaryVersion, cacheModeCA, maxDynamicSharedSizeBytes, preferredShmemCarveout, clusterDimMustBeSet,
        requiredClusterWidth, requiredClusterHeight, requiredClusterDepth, clusterSchedulingPolicyPreference, nonPortableClusterSizeAllowed;
};
struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem, sharedMemPerBlock, sharedMemPerBlockOptin, sharedMemPerMultiprocessor, totalConstMem;
    int major, minor, multiProcessorCount, warpSize, maxThreadsPerBlock, maxThreadsPerMultiProcessor, regsPerBlock, l2CacheSize, clockRate,
        memoryClockRate, memoryBusWidth, maxGridSize[3], maxThreadsDim[3], ECCEnabled, integrated, concurrentKernels;
};
enum cudaDeviceAttr {
    cudaDevAttrMaxThreadsPerBlock = 1, cudaDevAttrMaxSharedMemoryPerBlock = 8, cudaDevAttrWarpSize = 10, cudaDevAttrClockRate = 13,
    cudaDevAttrMultiProcessorCount = 16, cudaDevAttrL2CacheSize = 38, cudaDevAttrMaxThreadsPerMultiProcessor = 39,
    cudaDevAttrComputeCapabilityMajor = 75, cudaDevAttrComputeCapabilityMinor = 76, cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97 };

namespace emu {
constexpr size_t SHARED = 48 << 10, SHARED_OPTIN = 227 << 10;
constexpr int MULTIPROCESSORS = 4, THREADS_PER_MULTIPROCESSOR = 2048;
inline std::map<const void*, size_t>& shared_allowed() { static std::map<const void*, size_t> m; return m; }

// The virtual architecture that kernels were compiled for (__CUDA_ARCH__ / 10, ptxVersion): a program with code for sm_80 alone
// is compiled anew by the driver for the device, an sm_90, but what the source left out for sm_80 stays left out.
inline int& code_version() { static int v = 90; return v; }
// ... that one kernel was, if it differs.
inline std::map<const void*, int>& code_versions() { static std::map<const void*, int> m; return m; }
inline int code_version_of(const void* kernel) {
    auto own = code_versions().find(kernel);
    return own == code_versions().end() ? code_version() : own->second;
}

// As the linker knows it (-rdynamic), without its arguments.
inline std::string kernel_name(const void* kernel) {
    Dl_info info;
    if (!dladdr(kernel, &info) || !info.dli_sname) return "a kernel";
    int status;
    char* plain = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
    std::string name = plain ? plain : info.dli_sname;
    free(plain);
    if (name.starts_with("void ")) name.erase(0, 5);
    return name.substr(0, name.find('('));
}
inline cudaError_t check_launch(const void* kernel, const cudaLaunchConfig_t& c) {
    const size_t threads = (size_t)c.blockDim.x * c.blockDim.y * c.blockDim.z;
    auto allowed = shared_allowed().find(kernel);
    const size_t shared = allowed == shared_allowed().end() ? SHARED : allowed->second;
    const bool grid = c.gridDim.x && c.gridDim.y && c.gridDim.z && c.gridDim.x < 1u << 31 && c.gridDim.y < 65536 && c.gridDim.z < 65536;
    if (!grid || threads == 0 || threads > 1024 || c.blockDim.z > 64) return failed(cudaErrorInvalidConfiguration);
    return c.dynamicSmemBytes > shared ? failed(cudaErrorInvalidValue) : cudaSuccess;
}
}  // namespace emu

template <class... P, class... A> cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(P...), A&&... arguments) {
    EMU_ENTER();
    const cudaLaunchConfig_t c = *config;
    if (cudaError_t e = emu::check_launch((const void*)kernel, c); e != cudaSuccess) return e;
    // the arguments as they are now: what the caller does with its variables later does not matter
    auto body = [kernel, args = std::tuple<std::decay_t<P>...>(std::forward<A>(arguments)...)] { std::apply(kernel, args); };
    const std::string name = emu::kernel_name((const void*)kernel);
    bool early = false;
    for (unsigned i = 0; i < c.numAttrs; i++)
        early |= c.attrs[i].id == cudaLaunchAttributeProgrammaticStreamSerialization && c.attrs[i].val.programmaticStreamSerializationAllowed;
    emu::enqueue(c.stream, name.c_str(), [=, code = emu::code_version_of((const void*)kernel), tag = emu::label()] {
        const std::function<void()> thread_body = body;
        emu::device_thread().run([&] { emu::run_grid(name, c.gridDim, c.blockDim, c.dynamicSmemBytes, early, code, thread_body); });
        emu::tell({emu::Event::WORK, name, emu::g_watcher ? emu::g_watcher->traffic() : emu::Traffic{}, tag});
    });
    return cudaSuccess;
}

template <class K> cudaError_t cudaFuncSetAttribute(K* kernel, cudaFuncAttribute attribute, int value) {
    EMU_ENTER();
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value < 0 || (size_t)value > emu::SHARED_OPTIN) return emu::failed(cudaErrorInvalidValue);
    emu::shared_allowed()[(const void*)kernel] = std::max((size_t)value, emu::SHARED);
    return cudaSuccess;
}
template <class K> cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* a, K* kernel) {
    EMU_ENTER();
    auto allowed = emu::shared_allowed().find((const void*)kernel);
    *a = {};
    a->maxThreadsPerBlock = 1024, a->numRegs = 32, a->ptxVersion = emu::code_version_of((const void*)kernel), a->binaryVersion = 90;
    a->maxDynamicSharedSizeBytes = (int)(allowed == emu::shared_allowed().end() ? emu::SHARED : allowed->second), a->preferredShmemCarveout = -1;
    return cudaSuccess;
}
// As if registers were never what limits it.
template <class K> cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, K*, int threads, size_t shared) {
    EMU_ENTER();
    if (threads <= 0) return emu::failed(cudaErrorInvalidValue);
    *blocks = std::min(emu::THREADS_PER_MULTIPROCESSOR / threads, std::min(32, (int)((emu::SHARED_OPTIN + 1024) / (shared + 1024))));
    return cudaSuccess;
}

inline cudaError_t cudaGetDeviceCount(int* n) { EMU_ENTER(); *n = 1; return cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) { EMU_ENTER(); *device = 0; return cudaSuccess; }
inline cudaError_t cudaSetDevice(int device) { EMU_ENTER(); return device == 0 ? cudaSuccess : emu::failed(cudaErrorInvalidDevice); }
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
    EMU_ENTER();
    if (device != 0) return emu::failed(cudaErrorInvalidDevice);
    *p = {};
    strcpy(p->name, "emulated GPU");
    p->totalGlobalMem = emu::memory().capacity(), p->totalConstMem = 64 << 10;
    p->sharedMemPerBlock = emu::SHARED, p->sharedMemPerBlockOptin = emu::SHARED_OPTIN, p->sharedMemPerMultiprocessor = emu::SHARED_OPTIN + 1024;
    p->major = 9, p->multiProcessorCount = emu::MULTIPROCESSORS, p->warpSize = 32, p->maxThreadsPerBlock = 1024;
    p->maxThreadsPerMultiProcessor = emu::THREADS_PER_MULTIPROCESSOR, p->regsPerBlock = 65536, p->l2CacheSize = 50 << 20;
    p->maxGridSize[0] = 0x7fffffff, p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024, p->maxThreadsDim[2] = 64, p->concurrentKernels = 1;
    return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    cudaDeviceProp p;
    if (cudaError_t e = cudaGetDeviceProperties(&p, device); e != cudaSuccess) return e;
    switch (attribute) {
        case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; break;
        case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)p.sharedMemPerBlock; break;
        case cudaDevAttrWarpSize: *value = p.warpSize; break;
        case cudaDevAttrClockRate: *value = p.clockRate; break;
        case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
        case cudaDevAttrL2CacheSize: *value = p.l2CacheSize; break;
        case cudaDevAttrMaxThreadsPerMultiProcessor: *value = p.maxThreadsPerMultiProcessor; break;
        case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
        case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = (int)p.sharedMemPerMultiprocessor; break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)p.sharedMemPerBlockOptin; break;
        default: return emu::failed(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}
inline cudaError_t cudaRuntimeGetVersion(int* version) { EMU_ENTER(); *version = 13000; return cudaSuccess; }
inline cudaError_t cudaDriverGetVersion(int* version) { EMU_ENTER(); *version = 13000; return cudaSuccess; }
