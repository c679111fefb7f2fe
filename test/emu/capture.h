// capture.h: what may not be called while a stream is captured. The call that breaks a rule fails, and from then on the capture
// is invalid: whatever is asked of its streams fails too, until cudaStreamEndCapture, which returns no graph. (CUDA programming
// guide, "Prohibited and Unhandled Operations", "Invalidation"; cudaThreadExchangeStreamCaptureMode)
#pragma once
#include <memory>
#include <thread>
#include <vector>
#include "errors.h"

enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeRelaxed };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone, cudaStreamCaptureStatusActive, cudaStreamCaptureStatusInvalidated };
struct EmuGraph;
struct EmuStream;

namespace emu {
struct Capture {
    EmuGraph* graph;
    EmuStream* origin;                // where it began and must end
    cudaStreamCaptureMode mode;
    std::thread::id thread;
    bool blocking;                    // one of its streams waits for the legacy default stream, and that one for it
    bool invalid = false, ended = false;
};
using CapturePtr = std::shared_ptr<Capture>;
inline std::vector<CapturePtr>& captures() { static std::vector<CapturePtr> now; return now; }

inline cudaError_t invalidate(Capture& capture, cudaError_t e, const char* call, const char* why) {
    if (!capture.ended) capture.invalid = true;
    return refuse(e, call, why);
}
inline cudaError_t invalidate_all(cudaError_t e, const char* call, const char* why) {
    for (const CapturePtr& c : captures()) c->invalid = true;
    return refuse(e, call, why);
}

// What happens at once, and would not happen again when the graph is launched: allocating, freeing, copying, asking and waiting.
// Global forbids it to every thread, ThreadLocal to the one that captures, Relaxed to nobody. (That cudaEventQuery of an event from
// before the capture is among it: PyTorch, pull requests 104487 and 148594)
inline cudaError_t unsafe(const char* call) {
    bool forbidden = false;
    for (const CapturePtr& c : captures())
        if (c->mode == cudaStreamCaptureModeGlobal || (c->mode == cudaStreamCaptureModeThreadLocal && c->thread == std::this_thread::get_id()))
            c->invalid = forbidden = true;
    return forbidden ? refuse(cudaErrorStreamCaptureUnsupported, call, "not allowed while a stream is captured") : cudaSuccess;
}
#define EMU_UNSAFE() do { if (cudaError_t e_ = emu::unsafe(__func__); e_ != cudaSuccess) return e_; } while (0)

// The legacy default stream, and what enqueues to it and waits, while a stream that is not "non-blocking" is captured.
inline bool legacy_is_blocked() {
    for (const CapturePtr& c : captures()) if (c->blocking) return true;
    return false;
}
inline cudaError_t legacy(const char* call) {
    if (!legacy_is_blocked()) return cudaSuccess;
    for (const CapturePtr& c : captures()) c->invalid |= c->blocking;
    return refuse(cudaErrorStreamCaptureImplicit, call, "uses the legacy default stream while a blocking stream is captured");
}
#define EMU_LEGACY() do { if (cudaError_t e_ = emu::legacy(__func__); e_ != cudaSuccess) return e_; } while (0)
}  // namespace emu
