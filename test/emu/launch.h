// launch.h: kernels, and what the device says of itself: that of a small Hopper.
#pragma once
#include <cxxabi.h>
#include <dlfcn.h>
#include <cstring>
#include <map>
#include <memory>
#include <tuple>
#include "device_thread.h"
#include "graphs.h"

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
enum { cudaSharedmemCarveoutDefault = -1, cudaSharedmemCarveoutMaxL1 = 0, cudaSharedmemCarveoutMaxShared = 100 };
struct cudaFuncAttributes {
    size_t sharedSizeBytes, constSizeBytes, localSizeBytes;
    int maxThreadsPerBlock, numRegs, ptxVersion, binaryVersion, cacheModeCA, maxDynamicSharedSizeBytes, preferredShmemCarveout, clusterDimMustBeSet,
        requiredClusterWidth, requiredClusterHeight, requiredClusterDepth, clusterSchedulingPolicyPreference, nonPortableClusterSizeAllowed;
};
struct cudaDeviceProp {  // what CUDA 12 and 13 both have: clocks are attributes only
    char name[256];
    size_t totalGlobalMem, sharedMemPerBlock, sharedMemPerBlockOptin, sharedMemPerMultiprocessor, reservedSharedMemPerBlock, totalConstMem;
    int major, minor, multiProcessorCount, warpSize, maxThreadsPerBlock, maxThreadsPerMultiProcessor, maxBlocksPerMultiProcessor, regsPerBlock,
        regsPerMultiprocessor, l2CacheSize, memoryBusWidth, maxGridSize[3], maxThreadsDim[3], ECCEnabled, integrated, concurrentKernels;
};
enum cudaDeviceAttr {
    cudaDevAttrMaxThreadsPerBlock = 1, cudaDevAttrMaxSharedMemoryPerBlock = 8, cudaDevAttrWarpSize = 10, cudaDevAttrClockRate = 13,
    cudaDevAttrMultiProcessorCount = 16, cudaDevAttrL2CacheSize = 38, cudaDevAttrMaxThreadsPerMultiProcessor = 39,
    cudaDevAttrComputeCapabilityMajor = 75, cudaDevAttrComputeCapabilityMinor = 76, cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97 };

namespace emu {
constexpr size_t SHARED = 48 << 10, SHARED_OPTIN = 227 << 10;
constexpr int MULTIPROCESSORS = 4, THREADS_PER_MULTIPROCESSOR = 2048, BLOCKS_PER_MULTIPROCESSOR = 32;
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

// Another compiler's code, executed in the place of this one's: EMU_CODE names the library that finds a kernel's and runs it (test/ptx).
struct Argument { const void* value; size_t bytes; };
struct Code { std::function<void()> thread; size_t shared_bytes; };  // of one thread; no function after a mistake
using FindCode = Code (*)(const char* mangled_name, const std::vector<Argument>&, size_t threads, size_t dynamic_shared);
inline FindCode find_code = nullptr;  // set by the library when it is loaded
inline const bool code_is_loaded = [] {
    const char* library = getenv("EMU_CODE");
    if (library && !dlopen(library, RTLD_NOW)) fprintf(stderr, "emulator: EMU_CODE: %s\n", dlerror()), exit(1);
    return library != nullptr;
}();
inline const char* mangled_name(const void* kernel) {
    Dl_info info;
    return dladdr(kernel, &info) ? info.dli_sname : nullptr;
}

// Asked before each kernel: one that is not to run does nothing.
struct Asked { const std::string& name; dim3 blocks, threads; size_t shared_bytes; const std::vector<Argument>& arguments; };
inline std::function<bool(const Asked&)> runs = nullptr;

// As the linker knows it (-rdynamic), without its arguments.
inline std::string kernel_name(const void* kernel) {
    const char* mangled = mangled_name(kernel);
    if (!mangled) return "a kernel";
    int status;
    char* plain = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
    std::string name = plain ? plain : mangled;
    free(plain);
    if (name.starts_with("void ")) name.erase(0, 5);
    return name.substr(0, name.find('('));
}
inline size_t shared_of(const void* kernel) {
    auto allowed = shared_allowed().find(kernel);
    return allowed == shared_allowed().end() ? SHARED : allowed->second;
}

// Whether the kernel is launched with programmatic serialization; a known attribute once, and nothing that the emulator has not.
inline cudaError_t check_attributes(const cudaLaunchConfig_t& c, bool& programmatic) {
    const char* call = "cudaLaunchKernelEx";
    unsigned seen = 0;
    if (c.numAttrs && !c.attrs) return refuse(cudaErrorInvalidValue, call, "numAttrs, but no attrs");
    for (unsigned i = 0; i < c.numAttrs; i++) {
        const cudaLaunchAttribute& a = c.attrs[i];
        const auto& d = a.val.clusterDim;
        switch (a.id) {
            case cudaLaunchAttributeIgnore: case cudaLaunchAttributeAccessPolicyWindow: case cudaLaunchAttributePriority: break;
            case cudaLaunchAttributeProgrammaticStreamSerialization: programmatic = a.val.programmaticStreamSerializationAllowed; break;
            case cudaLaunchAttributeCooperative:
                if (a.val.cooperative) return refuse(cudaErrorNotSupported, call, "the emulator has no cooperative launches");
                break;
            case cudaLaunchAttributeClusterDimension:
                if (!d.x || !d.y || !d.z || c.gridDim.x % d.x || c.gridDim.y % d.y || c.gridDim.z % d.z)
                    return refuse(cudaErrorInvalidValue, call, "clusters must divide the grid");
                if (d.x * d.y * d.z > 1) return refuse(cudaErrorNotSupported, call, "the emulator has no clusters");
                break;
            default: return refuse(cudaErrorInvalidValue, call, "attribute " + std::to_string(a.id) + " is not one of launches that the emulator knows");
        }
        if (a.id != cudaLaunchAttributeIgnore && (seen >> a.id & 1)) return refuse(cudaErrorInvalidValue, call, "an attribute is given twice");
        seen |= 1u << a.id;
    }
    return cudaSuccess;
}
inline cudaError_t check_launch(const void* kernel, const cudaLaunchConfig_t& c) {
    if (!kernel) return failed(cudaErrorInvalidDeviceFunction);
    const size_t threads = (size_t)c.blockDim.x * c.blockDim.y * c.blockDim.z;
    const bool grid = c.gridDim.x && c.gridDim.y && c.gridDim.z && c.gridDim.x < 1u << 31 && c.gridDim.y < 65536 && c.gridDim.z < 65536;
    if (!grid || threads == 0 || threads > 1024 || c.blockDim.z > 64) return failed(cudaErrorInvalidConfiguration);
    return c.dynamicSmemBytes > shared_of(kernel) ? failed(cudaErrorInvalidValue) : cudaSuccess;
}

// Bytes that the parameters take, each at a multiple of its alignment: at most 32764. (CUDA 12.1 and newer, sm_70 and newer)
template <class... P> constexpr size_t parameter_bytes() {
    size_t bytes = 0;
    ((bytes = (bytes + alignof(P) - 1) / alignof(P) * alignof(P) + sizeof(P)), ...);
    return bytes;
}
// An argument that points to memory that only the host has: to a kernel it is no address.
template <class T> bool only_on_host(const T& argument) {
    if constexpr (std::is_pointer_v<T> && !std::is_function_v<std::remove_pointer_t<T>>) return argument && place_of(argument) == PAGEABLE;
    else return (void)argument, false;
}

// A kernel with its arguments as they were when it was launched: what the caller does with its variables later does not matter. What is known of their types alone
// is here, all else in launch(): a program has some seventy lists of types.
struct Call {
    virtual ~Call() = default;
    virtual const void* kernel() const = 0;
    virtual bool has_host_pointer() const = 0;
    virtual std::vector<Argument> arguments() const = 0;
    virtual void run_thread() const = 0;
};
template <class... P> class CallOf : public Call {
public:
    template <class... A> explicit CallOf(void (*k)(P...), A&&... a) : kernel_(k), arguments_(std::forward<A>(a)...) {}
    const void* kernel() const override { return (const void*)kernel_; }
    bool has_host_pointer() const override { return std::apply([](const P&... a) { return (only_on_host(a) || ...); }, arguments_); }
    std::vector<Argument> arguments() const override { return std::apply([](const P&... a) { return std::vector<Argument>{{&a, sizeof a}...}; }, arguments_); }
    void run_thread() const override { std::apply(kernel_, arguments_); }

private:
    void (*const kernel_)(P...);
    const std::tuple<P...> arguments_;
};
inline cudaError_t launch(const cudaLaunchConfig_t& c, std::shared_ptr<const Call> call) {
    if (cudaError_t e = check_enqueue("cudaLaunchKernelEx", c.stream); e != cudaSuccess) return e;
    bool early = false;
    if (cudaError_t e = check_launch(call->kernel(), c); e != cudaSuccess) return e;
    if (cudaError_t e = check_attributes(c, early); e != cudaSuccess) return e;
    early = early && may_be_early(*stream_of(c.stream));
    const bool host_pointer = call->has_host_pointer();
    const std::string name = kernel_name(call->kernel());
    return enqueue(c.stream, name.c_str(), [=, code = code_version_of(call->kernel()), tag = label()] {
        if (host_pointer) return fault(name + ": an argument points to memory of the host that is not pinned");
        Code own = {[of = call.get()] { of->run_thread(); }, c.dynamicSmemBytes};
        if (runs && !runs({name, c.gridDim, c.blockDim, c.dynamicSmemBytes, call->arguments()})) return;
        if (find_code) {
            own = find_code(mangled_name(call->kernel()), call->arguments(), (size_t)c.blockDim.x * c.blockDim.y * c.blockDim.z, c.dynamicSmemBytes);
            if (!own.thread) return;
        }
        device_thread().run([&] { run_grid(name, c.gridDim, c.blockDim, own.shared_bytes, early, code, own.thread); });
        tell({Event::WORK, name, g_watcher ? g_watcher->traffic() : Traffic{}, tag});
    });
}
}  // namespace emu

template <class... P, class... A> cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(P...), A&&... arguments) {
    static_assert(!(std::is_reference_v<P> || ...), "a kernel's parameters are not references");
    static_assert((std::is_trivially_copyable_v<P> && ...), "a kernel's arguments are copied as bytes");
    static_assert(emu::parameter_bytes<P...>() <= 32764, "a kernel's parameters are too large");
    EMU_ENTER();
    if (!config) return emu::failed(cudaErrorInvalidConfiguration);
    return emu::launch(*config, std::make_shared<emu::CallOf<P...>>(kernel, std::forward<A>(arguments)...));
}

template <class K> cudaError_t cudaFuncSetAttribute(K* kernel, cudaFuncAttribute attribute, int value) {
    EMU_ENTER();
    if (!kernel) return emu::failed(cudaErrorInvalidDeviceFunction);
    switch (attribute) {
        case cudaFuncAttributeMaxDynamicSharedMemorySize:
            if (value < 0 || (size_t)value > emu::SHARED_OPTIN) return emu::failed(cudaErrorInvalidValue);
            emu::shared_allowed()[(const void*)kernel] = (size_t)value;  // less than 48 KB is a limit too
            return cudaSuccess;
        case cudaFuncAttributePreferredSharedMemoryCarveout:
            return value >= cudaSharedmemCarveoutDefault && value <= cudaSharedmemCarveoutMaxShared ? cudaSuccess : emu::failed(cudaErrorInvalidValue);
        default: return emu::failed(cudaErrorInvalidValue);
    }
}
template <class K> cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* a, K* kernel) {
    EMU_ENTER();
    if (!a) return emu::failed(cudaErrorInvalidValue);
    if (!kernel) return emu::failed(cudaErrorInvalidDeviceFunction);
    *a = {};
    a->maxThreadsPerBlock = 1024, a->numRegs = 32, a->ptxVersion = emu::code_version_of((const void*)kernel), a->binaryVersion = 90;
    a->maxDynamicSharedSizeBytes = (int)emu::shared_of((const void*)kernel), a->preferredShmemCarveout = -1;
    return cudaSuccess;
}
// As if registers were never what limits it: by warps, by shared memory (1 KB a block is the system's own, and they come 128 bytes at a
// time), by blocks. None, where the kernel may not have as much. (cuda_occupancy.h)
template <class K> cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, K* kernel, int threads, size_t shared) {
    EMU_ENTER();
    if (!blocks || threads <= 0) return emu::failed(cudaErrorInvalidValue);
    if (!kernel) return emu::failed(cudaErrorInvalidDeviceFunction);
    const int warps = (threads + 31) / 32, by_warps = emu::THREADS_PER_MULTIPROCESSOR / 32 / warps;
    const int by_shared = (int)((emu::SHARED_OPTIN + 1024) / ((shared + 1024 + 127) / 128 * 128));
    *blocks = threads > 1024 || shared > emu::shared_of((const void*)kernel) ? 0 : std::min(std::min(by_warps, by_shared), emu::BLOCKS_PER_MULTIPROCESSOR);
    return cudaSuccess;
}

// EMU_GPUS: how many there are, 1. A process has the one that it chose, before anything else, and no memory of another's.
namespace emu {
inline int& device_number() { static int number = 0; return number; }
inline int device_count() { const char* n = getenv("EMU_GPUS"); return n ? atoi(n) : 1; }
}
inline cudaError_t cudaGetDeviceCount(int* n) { EMU_ENTER(); if (!n) return emu::failed(cudaErrorInvalidValue); *n = emu::device_count(); return cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) { EMU_ENTER(); if (!device) return emu::failed(cudaErrorInvalidValue); *device = emu::device_number(); return cudaSuccess; }
inline cudaError_t cudaSetDevice(int device) {
    EMU_ENTER();
    if (device < 0 || device >= emu::device_count()) return emu::failed(cudaErrorInvalidDevice);
    emu::device_number() = device;
    return cudaSuccess;
}
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
    EMU_ENTER();
    if (device < 0 || device >= emu::device_count()) return emu::failed(cudaErrorInvalidDevice);
    *p = {};
    snprintf(p->name, sizeof p->name, "%s", getenv("EMU_GPU_NAME") ? getenv("EMU_GPU_NAME") : "emulated GPU");
    p->totalGlobalMem = emu::memory().capacity(), p->totalConstMem = 64 << 10;
    p->sharedMemPerBlock = emu::SHARED, p->sharedMemPerBlockOptin = emu::SHARED_OPTIN, p->sharedMemPerMultiprocessor = emu::SHARED_OPTIN + 1024;
    p->major = 9, p->multiProcessorCount = emu::MULTIPROCESSORS, p->warpSize = 32, p->maxThreadsPerBlock = 1024;
    p->maxThreadsPerMultiProcessor = emu::THREADS_PER_MULTIPROCESSOR, p->maxBlocksPerMultiProcessor = emu::BLOCKS_PER_MULTIPROCESSOR;
    p->regsPerBlock = p->regsPerMultiprocessor = 65536, p->l2CacheSize = 50 << 20, p->reservedSharedMemPerBlock = 1024, p->memoryBusWidth = 5120;
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
        case cudaDevAttrClockRate: *value = 1755000; break;  // kHz, an H100's
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
