// attention_cudnn.cuh: attention by cuDNN, where the program was built with it (-DLLMC_CUDNN) and it is faster than ours: plans, made
// once a shape, and the choice, autotuned in the warm-up and kept in the autotune cache, so that the next run starts sooner and is bitwise
// identical. Either one's forward can be combined with either one's backward: lse means the same in both.
#pragma once
#include <map>
#include <string>
#include "../base/heads.h"
#include "autotune_cache.cuh"
#include "device.cuh"
#ifdef LLMC_CUDNN
#include "attention_graph.h"

namespace attention_cudnn {
using namespace attention_graph;
constexpr bool HERE = true;

inline Problem problem_of(int B, int T, const Heads& heads, int window = 0) { return {.B = B, .T = T, .NH = heads.NH, .HS = heads.HS, .NKV = heads.NKV, .window = window < T ? window : 0}; }

struct Ready { Builder builder; Plan plan; };
struct Choice { bool cudnn; float ours_ms, cudnn_ms; };
// A line of the autotune cache.
inline bool parse_choice(const std::string& line, Problem& p, Choice& c) {
    int backward, dq, cudnn, used = 0;
    const int read = sscanf(line.c_str(), "%ld %ld %ld %ld %d %d %d %f %f%n %ld%n", &p.B, &p.T, &p.NH, &p.HS, &backward, &dq, &cudnn, &c.ours_ms, &c.cudnn_ms, &used, &p.NKV, &used);
    int of_window = 0;
    p.window = 0;
    if (read >= 9 && sscanf(line.c_str() + used, " w%ld%n", &p.window, &of_window) == 1) used += of_window;
    if (read < 9 || (of_window && p.window < 1) || dq < ATOMIC || dq > NO_DETERMINISTIC_ENGINE || used != (int)line.size()) return false;
    if (read == 9) p.NKV = p.NH;
    p.backward = backward, p.dq = (DqAccumulation)dq, c.cudnn = cudnn;
    return read == 9 || p.NKV < p.NH;
}
inline std::string print_choice(const Problem& p, const Choice& c) {
    return format("%ld %ld %ld %ld %d %d %d %.4f %.4f", p.B, p.T, p.NH, p.HS, p.backward, p.dq, c.cudnn, c.ours_ms, c.cudnn_ms) + (p.NKV < p.NH ? format(" %ld", p.NKV) : "") + (p.window ? format(" w%ld", p.window) : "");
}
struct State {
    std::map<Problem, Ready> plans;
    AutotuneCache<Problem, Choice> cache{{"attention", cudnnGetVersion, parse_choice, print_choice}};
    std::string said[2], in_windows[2];  // whose forward, whose backward, and why
    cudnnHandle_t handle = nullptr;
    int sm = 0;           // compute capability of the GPU that is here; 0: not asked yet, or none is here
};
inline State& state() { static State& s = *new State; return s; }  // never destroyed: at exit the driver may be unloaded before it

inline std::string version() { return format("cuDNN %zu.%zu.%zu", cudnnGetVersion() / 10000, cudnnGetVersion() / 100 % 100, cudnnGetVersion() % 100); }
inline int sm() {
    int device = 0, major = 0, minor = 0;
    if (state().sm == 0 && cudaGetDevice(&device) == cudaSuccess && cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess) state().sm = 10 * major + minor;
    if (state().sm == 0) cudaGetLastError();  // --plan runs without a GPU: that there is none is no error
    return state().sm;
}

inline Ready& plan_for(const Problem& p) {
    auto [at, fresh] = state().plans.try_emplace(p);
    Ready& r = at->second;
    if (!fresh) return r;
    if (const std::string why = not_asked(p, cudnnGetVersion()); !why.empty()) r.builder.refused = version() + ": " + why;
    else if (state().handle || r.builder.take(cudnnCreate(&state().handle), "cudnnCreate")) r.plan = make_plan(r.builder, p, state().handle);
    if (r.plan.plan && r.plan.workspace > (int64_t)workspace_bytes(p)) r.builder.refused = format("it wants %zd bytes of workspace", (ssize_t)r.plan.workspace);
    return r;
}

// Whether to use cuDNN. ours(), theirs(): the two implementations, called here only to measure them. A plan takes half a second to build: it is
// built only if it will be measured or used.
template <class Ours, class Theirs> bool choose(const Problem& p, stream_t stream, Ours ours, Theirs theirs) {
    State& s = state();
    std::string& said = p.window ? s.in_windows[p.backward] : s.said[p.backward];
    const bool asked = stream.kernels.attention == AttentionBackend::CUDNN;
    const Choice* known = asked ? nullptr : s.cache.find(p);
    if (!asked && !known && !stream.autotuning) return false;  // nothing is measured outside the warm-up
    if (asked || !known || known->cudnn) {
        const Ready& r = plan_for(p);
        if (!r.builder.refused.empty()) {
            if (known) s.cache.refuse(p);
            CHECK(!asked, "--attention cudnn: B %d, T %d, %d heads of %d: %s", (int)p.B, (int)p.T, (int)p.NH, (int)p.HS, r.builder.refused.c_str());
            said = "ours, as cuDNN does not do it: " + r.builder.refused;
            return false;
        }
        if (asked) return said = version() + ", as asked", true;
        if (!known) {
            const float ours_ms = fastest_ms(4, stream, ours), cudnn_ms = fastest_ms(4, stream, theirs);
            known = &s.cache.store(p, {cudnn_ms < ours_ms, ours_ms, cudnn_ms});
        }
    }
    if (stream.autotuning) s.cache.use(p);
    const Choice& c = *known;
    said = c.cudnn ? format("%s, %.3f ms, ours takes %.3f", version().c_str(), c.cudnn_ms, c.ours_ms)
                   : format("ours, %.3f ms, %s takes %.3f", c.ours_ms, version().c_str(), c.cudnn_ms);
    return c.cudnn;
}

inline void run(const Problem& p, std::map<int64_t, const void*> tensors, void* workspace, stream_t stream) {
    const Ready& r = plan_for(p);
    Builder b;
    execute(b, r.plan, p, std::move(tensors), workspace, state().handle, stream);
    CHECK(b.refused.empty(), "attention: B %d, T %d, %d heads of %d: %s", (int)p.B, (int)p.T, (int)p.NH, (int)p.HS, b.refused.c_str());
}

// As attention_forward; false if cuDNN is not used: then nothing was computed. ours(): the same by our kernels.
template <class Ours>
bool forward(bf16* out, float* lse, const bf16* qkv, int window, int B, int T, const Heads& heads, stream_t stream, Ours ours) {
    const Problem p = problem_of(B, T, heads, window);
    const bf16 *k = qkv + heads.q(), *v = k + heads.kv();
    CHECK(stream.workspace_bytes >= workspace_bytes(p), "attention: %zu bytes of workspace, must be %zu", stream.workspace_bytes, workspace_bytes(p));
    auto theirs = [&] { run(p, {{Q, qkv}, {K, k}, {V, v}, {OUT, out}, {LSE, lse}}, stream.workspace, stream); };
    if (!choose(p, stream, ours, theirs)) return false;
    theirs();
    return true;
}

// As attention_backward, likewise. scratch: attention_scratch().
template <class Ours>
bool backward(bf16* dqkv, const bf16* dout, const bf16* out, const float* lse, const bf16* qkv, int window, float* scratch, int B, int T, const Heads& heads,
              stream_t stream, Ours ours) {
    Problem p = problem_of(B, T, heads, window);
    p.backward = true, p.dq = dq_accumulation(stream.kernels.deterministic, sm(), cudnnGetVersion());
    const bf16 *k = qkv + heads.q(), *v = k + heads.kv();
    bf16 *dk = dqkv + heads.q(), *dv = dk + heads.kv();
    char *delta = (char*)scratch, *dq_accum = delta + delta_bytes(p), *workspace = dq_accum + dq_accum_bytes(p);
    auto theirs = [&] {
        std::map<int64_t, const void*> tensors = {{Q, qkv}, {K, k}, {V, v}, {OUT, out}, {LSE, lse}, {DOUT, dout},
                                              {DQ, dqkv}, {DK, dk}, {DV, dv}, {DELTA, delta}};
        if (p.has_dq_accum()) tensors[DQ_ACCUM] = dq_accum;
        run(p, tensors, workspace, stream);
    };
    if (!choose(p, stream, ours, theirs)) return false;
    theirs();
    return true;
}

// any_gpu: the most that any GPU needs, not only this one
inline size_t scratch_bytes(int B, int T, const Heads& heads, bool deterministic, bool any_gpu) {
    return backward_bytes(problem_of(B, T, heads), deterministic, any_gpu ? 0 : sm(), cudnnGetVersion());
}

// body(cache): of the autotune cache, where there is cuDNN to choose.
template <class Body> void with_autotune_cache(Body body) { body(state().cache); }

inline std::string path() {
    const auto by = [](const std::string (&said)[2]) { return (said[0].empty() ? "" : "forward by " + said[0]) + (said[1].empty() ? "" : "; backward by " + said[1]); };
    const std::string in_windows = by(state().in_windows);
    return by(state().said) + (in_windows.empty() ? "" : "; in windows " + in_windows);
}
}  // namespace attention_cudnn

#else
namespace attention_cudnn {
constexpr bool HERE = false;
template <class... A> bool forward(const A&...) { return false; }
template <class... A> bool backward(const A&...) { return false; }
inline size_t scratch_bytes(int, int, const Heads&, bool, bool) { return 0; }
inline std::string path() { return "by ours, built without cuDNN"; }
template <class Body> void with_autotune_cache(Body) {}
}  // namespace attention_cudnn
#endif
