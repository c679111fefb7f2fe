// copies.h: copies, memory that is set, and memory that is given back. What the runtime may do either late or at once is done now the
// one way, now the other. (CUDA Runtime API, "API synchronization behavior")
#pragma once
#include "streams.h"

enum cudaMemcpyKind { cudaMemcpyHostToHost, cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice, cudaMemcpyDefault };

namespace emu {
enum Place { PAGEABLE, PINNED, DEVICE, MANAGED };
inline Place place_of(const void* p) {
    if (!memory().in_region(p)) return is_pinned(p) ? PINNED : PAGEABLE;
    auto* a = memory().find(memory().device, p);
    return a && a->second.managed ? MANAGED : DEVICE;
}
inline cudaError_t check_copy(const char* call, const void* dst, const void* src, size_t bytes, cudaMemcpyKind kind) {
    if ((unsigned)kind > cudaMemcpyDefault) return refuse(cudaErrorInvalidMemcpyDirection, call, "no such kind of copy");
    if (bytes == 0) return cudaSuccess;
    if (!dst || !src) return refuse(cudaErrorInvalidValue, call, "a pointer is null");
    if (!copy_fits(call, dst, bytes) || !copy_fits(call, src, bytes)) return failed(cudaErrorInvalidValue);
    const Place from = place_of(src), to = place_of(dst);
    const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    // pinned memory has an address on the device too
    if (kind != cudaMemcpyDefault && ((from_device ? from == PAGEABLE : from == DEVICE) || (to_device ? to == PAGEABLE : to == DEVICE)))
        return refuse(cudaErrorInvalidValue, call, "the pointers are not what the kind of copy says");
    if ((const char*)dst < (const char*)src + bytes && (const char*)src < (const char*)dst + bytes) return refuse(cudaErrorInvalidValue, call, "the areas overlap");
    return cudaSuccess;
}
// When a graph's copy is done, its pinned memory must still be there.
inline bool still_pinned(const char* call, const void* p, size_t bytes, Place place) {
    if (place != PINNED || (is_pinned(p) && copy_fits(call, p, bytes))) return true;
    fault(std::string(call) + ": its pinned memory was freed before");
    return false;
}

inline cudaError_t copy(const char* call, void* dst, const void* src, size_t bytes, cudaMemcpyKind kind, cudaStream_t s, bool synchronous) {
    if (cudaError_t e = check_copy(call, dst, src, bytes, kind); e != cudaSuccess) return e;
    if (bytes == 0) return cudaSuccess;
    EmuStream* stream = stream_of(s);
    const Place from = place_of(src), to = place_of(dst);
    const bool from_host = from <= PINNED, to_host = to <= PINNED;
    if (stream->capture && (from == PAGEABLE || to == PAGEABLE))
        return invalidate(*stream->capture, cudaErrorStreamCaptureUnsupported, call, "a copy of pageable memory cannot be captured");
    // pageable memory is read at once, into a staging buffer, or later
    std::shared_ptr<std::vector<char>> staged;
    if (synchronous && from == PAGEABLE) run_until(stream->last);
    if (from == PAGEABLE && (synchronous || random(2))) staged = std::make_shared<std::vector<char>>((const char*)src, (const char*)src + bytes);
    cudaError_t e = enqueue(s, call, [=, tag = label()] {
        if (!still_pinned(call, src, bytes, from) || !still_pinned(call, dst, bytes, to)) return;
        memcpy(dst, staged ? staged->data() : src, bytes);
        EMU_WATCH(written(dst, bytes));
        tell({Event::WORK, call, once(from_host ? 0 : bytes, to_host ? 0 : bytes), tag});
    }, COPY, from * 4 + to);
    if (e != cudaSuccess) return e;
    // cudaMemcpy waits neither for a copy on the device nor, once pageable memory has been staged, for its transfer to the device
    const bool waits = from_host && to_host ? true : synchronous ? to_host || from == PINNED : to == PAGEABLE && random(2);
    if (waits && !stream->capture) run_until(stream->last);
    return finish();
}
inline cudaError_t set(const char* call, void* dst, int value, size_t bytes, cudaStream_t s) {
    if (bytes == 0) return cudaSuccess;
    if (!dst || place_of(dst) == PAGEABLE) return refuse(cudaErrorInvalidValue, call, "this is no memory of the device");
    if (!copy_fits(call, dst, bytes)) return failed(cudaErrorInvalidValue);
    const Place to = place_of(dst);
    return enqueue(s, call, [=, tag = label()] {
        if (!still_pinned(call, dst, bytes, to)) return;
        memset(dst, value, bytes);
        EMU_WATCH(written(dst, bytes));
        tell({Event::WORK, call, once(0, to == PINNED ? 0 : bytes), tag});
    }, SET, to);
}
}  // namespace emu

inline cudaError_t cudaMemcpyAsync(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind, cudaStream_t s = nullptr) {
    EMU_ENTER();
    EMU_ENQUEUE(s);
    return emu::copy(__func__, dst, src, bytes, kind, s, false);
}
inline cudaError_t cudaMemcpy(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind) {
    EMU_ENTER();
    EMU_LEGACY();
    EMU_UNSAFE();
    return emu::copy(__func__, dst, src, bytes, kind, nullptr, true);
}
inline cudaError_t cudaMemsetAsync(void* dst, int value, size_t bytes, cudaStream_t s = nullptr) {
    EMU_ENTER();
    EMU_ENQUEUE(s);
    return emu::set(__func__, dst, value, bytes, s);
}
// Waits only where the memory is pinned.
inline cudaError_t cudaMemset(void* dst, int value, size_t bytes) {
    EMU_ENTER();
    EMU_LEGACY();
    EMU_UNSAFE();
    if (cudaError_t e = emu::set(__func__, dst, value, bytes, nullptr); e != cudaSuccess) return e;
    if (bytes && emu::place_of(dst) == emu::PINNED) emu::run_until(emu::queue().null_stream.last);
    return emu::finish();
}

inline cudaError_t cudaFree(void* p) {
    EMU_ENTER();
    EMU_UNSAFE();
    if (!p) return cudaSuccess;
    emu::run_all();
    return emu::device_give((char*)p);
}
inline cudaError_t cudaFreeHost(void* p) {
    EMU_ENTER();
    EMU_UNSAFE();
    if (!p) return cudaSuccess;
    emu::run_all();
    if (!emu::memory().pinned.erase((char*)p)) {
        fprintf(stderr, "emulator: cudaFreeHost(%p): no allocation begins there: freed before?\n", p);
        return emu::failed(cudaErrorInvalidValue);
    }
    free(p);
    return cudaSuccess;
}
