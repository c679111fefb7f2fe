// The stand-in for cuDNN: that attention's graphs come to what a plain oracle says, and that what is wrong is refused with a reason.
#include <map>
#include "../cudnn/here.h"
#include "../cudnn/wrong_calls.h"
#include "../layers.h"
#include "emu_test.h"

namespace {
using namespace attention_graph;
inline const char* name_of(cudnnStatus_t status) { return cudnnGetErrorString(status); }

std::string reason() {
    char why[512];
    cudnnGetLastErrorString(why, sizeof why);
    return why;
}

// Forward and backward of a problem, on buffers of their own and a stream of their own.
struct Attention {
    const Problem p;
    const size_t N = (size_t)(p.B * p.T), C = (size_t)(p.NH * p.HS), KC = (size_t)(p.NKV * p.HS), rows = (size_t)p.NH * N;
    Random random{(uint64_t)(p.T * p.HS)};
    Buffer<bf16> qkv{normal_values<bf16>(random, N * (C + 2 * KC))}, dout{normal_values<bf16>(random, N * C)}, out{N * C}, dqkv{N * (C + 2 * KC)};
    Buffer<float> lse{rows}, delta{rows}, dq_accum{N * C};
    float scale = 1 / std::sqrt((float)p.HS), hidden = -INFINITY, one = 1;
    cudaStream_t stream = nullptr;
    cudnnHandle_t handle = nullptr;
    Builder builders[2];
    Plan plans[2];
    std::map<int64_t, void*> at{{Q, qkv.p}, {K, qkv.p + C}, {V, qkv.p + C + KC}, {OUT, out.p}, {LSE, lse.p}, {DOUT, dout.p}, {DQ, dqkv.p}, {DK, dqkv.p + C},
                                {DV, dqkv.p + C + KC}, {DELTA, delta.p}, {DQ_ACCUM, dq_accum.p}, {SCALE, &scale}, {HIDDEN, &hidden}, {ONE, &one}};
    explicit Attention(Problem p_) : p(p_) {
        OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)); OK(cudnnCreate(&handle)); OK(cudnnSetStream(handle, stream));
        OK(cudaDeviceSynchronize());
        for (int i = 0; i < 2; i++) {
            Problem half = p;
            half.backward = i == 1, plans[i] = make_plan(builders[i], half, handle);
            EXPECT_STR(builders[i].refused, "");
        }
    }
    ~Attention() { cudaDeviceSynchronize(), cudnnDestroy(handle), cudaStreamDestroy(stream); }
    cudnnStatus_t run(int backward, const char* workspace = nullptr) {
        Builder b;
        Buffer<char> own((size_t)plans[backward].workspace + 16);  // to free it waits, also where the plan wants none
        std::vector<int64_t> uids;
        std::vector<void*> pointers;
        for (auto& [uid, pointer] : at) uids.push_back(uid), pointers.push_back(pointer);
        Descriptor pack = b.make(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
        b.set(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, uids.data(), (int64_t)uids.size());
        b.set(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, pointers.data(), (int64_t)uids.size());
        b.set(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace ? (void*)workspace : own.p);
        b.finalize(pack);
        EXPECT_STR(b.refused, "");
        return cudnnBackendExecute(handle, plans[backward].plan, pack);  // `own` is freed once it has run
    }
};

// |x - y| <= bound of each
void expect_within(const char* name, const std::vector<double>& x, const std::vector<double>& y, const std::vector<double>& bound) {
    for (size_t i = 0; i < y.size(); i++) if (!(std::fabs(x[i] - y[i]) <= bound[i])) return FAIL("%s[%zu] is %g, expected %g up to %g", name, i, x[i], y[i], bound[i]);
}
// Weights and ds are rounded to bf16, 2^-8 of each at most, so of the sum of the terms' magnitudes; so is what is stored, 2^-8 of it.
// Sums of 70 terms in fp32 under an exponential, 64 2^-24 of scores of some 16: 2^-14 of the magnitudes. Of a group, what each query head adds to dk and dv is
// rounded once more, 2^-8 of it.
void check(Attention& a) {
    const size_t T = (size_t)a.p.T, NH = (size_t)a.p.NH, HS = (size_t)a.p.HS, C = a.C, row_size = C + 2 * a.KC, group = NH / (size_t)a.p.NKV;
    const auto qkv = in_double(a.qkv.values()), dout = in_double(a.dout.values()), out = in_double(a.out.values());
    std::vector<double> y(a.N * C), yb(y), lse(a.rows), lseb(a.rows), d(a.N * row_size), db(d), ds(T), dsb(T), p(T);
    const auto add = [](double& sum, double& bound, double factor, double error, double x) { sum += factor * x, bound += (std::fabs(factor) * 0x1p-8 + error) * std::fabs(x); };
    for (size_t row = 0; row < a.N * NH; row++) {
        const size_t n = row / NH, h = row % NH * HS, t = n % T, first = n - t;
        const auto at = [&](size_t which, size_t s, size_t i) { return (first + s) * row_size + (which == 0 ? h : C + (which - 1) * a.KC + row % NH / group * HS) + i; };
        double sum = 0, delta = 0, magnitude = 0;
        for (size_t i = 0; i < HS; i++) delta += dout[n * C + h + i] * out[n * C + h + i], magnitude += std::fabs(dout[n * C + h + i] * out[n * C + h + i]);
        for (size_t s = 0; s <= t; s++) {
            p[s] = 0;
            for (size_t i = 0; i < HS; i++) p[s] += qkv[at(0, t, i)] * qkv[at(1, s, i)];
            sum += p[s] = std::exp(p[s] * a.scale);
        }
        for (size_t s = 0; s <= t; s++) {
            double dp = -delta, dpb = magnitude;
            p[s] /= sum;
            for (size_t i = 0; i < HS; i++) dp += dout[n * C + h + i] * qkv[at(2, s, i)], dpb += std::fabs(dout[n * C + h + i] * qkv[at(2, s, i)]);
            ds[s] = a.scale * p[s] * dp, dsb[s] = 0x1p-14 * a.scale * p[s] * dpb;
            for (size_t i = 0; i < HS; i++) {
                add(y[n * C + h + i], yb[n * C + h + i], p[s], 0x1p-14 * p[s], qkv[at(2, s, i)]);
                add(d[at(0, t, i)], db[at(0, t, i)], ds[s], dsb[s], qkv[at(1, s, i)]);
                const double again = group > 1 ? 0x1p-8 : 0;
                add(d[at(1, s, i)], db[at(1, s, i)], ds[s], dsb[s] + again * std::fabs(ds[s]), qkv[at(0, t, i)]);
                add(d[at(2, s, i)], db[at(2, s, i)], p[s], 0x1p-14 * p[s] + again * p[s], dout[n * C + h + i]);
            }
        }
        const size_t r = (n / T * NH + row % NH) * T + t;
        lse[r] = std::log(sum), lseb[r] = 0x1p-14 + 0x1p-23 * std::fabs(lse[r]);
    }
    for (size_t i = 0; i < y.size(); i++) yb[i] += 0x1p-8 * std::fabs(y[i]);
    for (size_t i = 0; i < d.size(); i++) db[i] += 0x1p-8 * std::fabs(d[i]);
    expect_within("out", out, y, yb), expect_within("lse", in_double(a.lse.values()), lse, lseb), expect_within("dqkv", in_double(a.dqkv.values()), d, db);
}
__global__ void look(const bf16* x, size_t n, int* nans) { for (size_t i = threadIdx.x; i < n; i += 32) if (std::isnan((float)x[i])) *nans = 1; }
}  // namespace

TEST(attention_is_that_of_the_oracle) {
    for (Problem p : {Problem{2, 13, 3, 8}, Problem{3, 1, 2, 16}, Problem{1, 70, 2, 64}, here::grouped(2, 13, 6, 2, 8), here::grouped(1, 70, 2, 1, 64)}) for (bool in_order : {true, false}) {
        p.dq = in_order ? SEPARATE_GEMM : ATOMIC;
        Attention a(p);
        EXPECT_EQ(a.plans[0].workspace, 256);
        const int64_t of_heads = p.NKV < p.NH ? 2 * p.B * p.NH * p.T * p.HS * 2 : 0;
        EXPECT_EQ(a.plans[1].workspace, 256 + of_heads + (in_order ? p.B * p.NH * (p.T > 64 ? 128 : 64) * 128 * 2 : 0));
        OK(a.run(0)); OK(a.run(1));
        check(a);
        Buffer<int> nans(std::vector<int>{0});  // a kernel reads it all: the watcher knows what the library wrote
        cudaLaunchConfig_t config{};
        config.gridDim = 1, config.blockDim = 32;
        OK(cudaLaunchKernelEx(&config, look, (const bf16*)a.dqkv.p, a.dqkv.n, nans.p));
        EXPECT_EQ(nans.values()[0], 0);
    }
}

// A GPU and a version for as long as it lives
struct Gpu {
    Gpu(int sm, size_t version) { emu::cudnn_sm() = sm, emu::cudnn_version() = version; }
    ~Gpu() { emu::cudnn_sm() = 90, emu::cudnn_version() = 91900; }
};

TEST(dq_accumulation_is_deterministic_or_not) {
    struct Case { DqAccumulation dq; int sm; size_t version; };
    for (Case c : {Case{SEPARATE_GEMM, 90, 91900}, Case{ATOMIC, 90, 91900}, Case{SEMAPHORE, 90, 92500}, Case{SM100, 100, 91801}, Case{SM100, 103, 92300}}) for (int64_t NKV : {2, 1}) {
        const Gpu gpu(c.sm, c.version);
        Attention a({1, 70, 2, 64, false, c.dq, NKV});
        EXPECT(a.plans[1].workspace <= (int64_t)workspace_bytes({1, 70, 2, 64, true, c.dq, NKV}));
        OK(a.run(0));
        std::vector<bf16> dqkv;
        std::vector<float> dq_accum;
        int different = 0;
        for (uint64_t seed = 1; seed <= 4; seed++) {
            emu::set_seed(seed);
            OK(a.run(1));
            if (c.dq != ATOMIC) EXPECT(seed == 1 || same_bits(dqkv, a.dqkv.values()));
            else different += seed > 1 && !same_bits(dq_accum, a.dq_accum.values());
            dqkv = a.dqkv.values(), dq_accum = a.dq_accum.values();
        }
        EXPECT_EQ(different > 0, c.dq == ATOMIC);
        check(a);
    }
}

// The backwards whose engine must be named are for their GPUs and versions only; elsewhere another keeps the order, or none.
TEST(who_keeps_the_order_of_dq) {
    struct Case { int sm; size_t version; DqAccumulation dq; };
    for (Case c : {Case{0, 92800, SEPARATE_GEMM}, Case{80, 92800, SEPARATE_GEMM}, Case{89, 91600, SEPARATE_GEMM}, Case{120, 92800, SEPARATE_GEMM}, Case{121, 91900, SEPARATE_GEMM},
                   Case{90, 90800, SEPARATE_GEMM}, Case{90, 92499, SEPARATE_GEMM}, Case{90, 92500, SEMAPHORE}, Case{90, 92800, SEMAPHORE},
                   Case{100, 91600, NO_DETERMINISTIC_ENGINE}, Case{100, 91800, NO_DETERMINISTIC_ENGINE}, Case{100, 91801, SM100}, Case{103, 91900, SM100}, Case{103, 92300, SM100},
                   Case{101, 92800, NO_DETERMINISTIC_ENGINE}, Case{107, 92800, NO_DETERMINISTIC_ENGINE}, Case{110, 92800, NO_DETERMINISTIC_ENGINE}}) {
        EXPECT_EQ(dq_accumulation(true, c.sm, c.version), c.dq);
        EXPECT_EQ(dq_accumulation(false, c.sm, c.version), ATOMIC);
    }
    for (DqAccumulation dq : {SEMAPHORE, SM100}) for (int sm : {80, 90, 100, 120}) for (size_t version : {91600, 91900, 92400, 92500}) {
        const Gpu gpu(sm, version);
        Builder b;
        cudnnHandle_t handle = nullptr;
        OK(cudnnCreate(&handle));
        EXPECT_EQ(make_plan(b, {1, 70, 2, 64, true, dq}, handle).plan != nullptr, dq == dq_accumulation(true, sm, version));
        OK(cudnnDestroy(handle));
    }
}

TEST(graphs_that_are_refused) {
    const auto refused = [&](const char* status, const char* text, auto body) {
        Builder b;
        Operations ops(b, {2, 13, 3, 8});
        body(b, ops);
        if (b.refused.empty()) ops.graph(nullptr);
        if (b.refused.find(std::string("CUDNN_STATUS_") + status + ": ") == std::string::npos || b.refused.find(text) == std::string::npos) FAIL("'%s', expected %s, %s", b.refused.c_str(), status, text);
    };
    const auto TENSOR = CUDNN_BACKEND_TENSOR_DESCRIPTOR;
    const auto UID = CUDNN_ATTR_TENSOR_UNIQUE_ID;
    refused("BAD_PARAM_ATTRIBUTE_TYPE", "wrong type", [&](Builder& b, Operations&) { b.set(b.make(TENSOR), UID, CUDNN_TYPE_INT32, 1); });
    refused("BAD_PARAM", "UNIQUE_ID is set with a wrong number", [&](Builder& b, Operations&) { int64_t x[2]{}; b.set(b.make(TENSOR), UID, CUDNN_TYPE_INT64, x, 2); });
    refused("BAD_PARAM", "after finalize", [&](Builder& b, Operations& o) { b.set(o.rows(LSE), UID, CUDNN_TYPE_INT64, (int64_t)1); });
    refused("BAD_PARAM", "UNIQUE_ID is missing", [&](Builder& b, Operations&) { b.finalize(b.make(TENSOR)); });
    refused("BAD_PARAM_NOT_FINALIZED", "not finalized", [&](Builder& b, Operations&) { b.link(b.make(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR), CUDNN_ATTR_OPERATION_RESHAPE_XDESC, b.make(TENSOR)); });
    refused("BAD_PARAM", "OPERATIONGRAPH_OPS is missing", [&](Builder& b, Operations&) { b.finalize(b.make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)); });
    refused("BAD_PARAM", "tensor 1 (2, 3, 8, 13) is another tensor 1 (2, 3, 13, 8)", [&](Builder&, Operations& o) { o.multiply(o.tensor(OUT, CUDNN_DATA_FLOAT, {2, 3, 13, 13}, {507, 169, 13, 1}), o.heads(Q, 72), o.heads_transposed(Q, 72)); });
    refused("BAD_PARAM", "shapes that do not fit: tensor 1", [&](Builder&, Operations& o) { o.multiply(o.scores(), o.heads(Q, 72), o.heads(K, 72)); });
    refused("BAD_PARAM", "pointwise operation on shapes", [&](Builder&, Operations& o) { o.pointwise(o.rows(DELTA), CUDNN_POINTWISE_ADD, o.rows(LSE), o.heads(Q, 72)); });
    refused("BAD_PARAM", "too few", [&](Builder&, Operations& o) { o.pointwise(o.rows(DELTA), CUDNN_POINTWISE_ADD, o.rows(LSE)); });
    refused("BAD_PARAM", "along no axis", [&](Builder&, Operations& o) { o.pointwise(o.scores(CUDNN_DATA_INT32), CUDNN_POINTWISE_GEN_INDEX, o.scores()); });
    refused("BAD_PARAM", "no operation makes it", [&](Builder&, Operations& o) { o.pointwise(o.rows(LSE), CUDNN_POINTWISE_LOG, o.rows(o.new_virtual())); });
    refused("BAD_PARAM", "no operation takes it", [&](Builder&, Operations& o) { o.pointwise(o.rows(o.new_virtual()), CUDNN_POINTWISE_LOG, o.rows(LSE)); });
    refused("BAD_PARAM", "result of two operations", [&](Builder&, Operations& o) { for (int i = 0; i < 2; i++) o.pointwise(o.rows(DELTA), CUDNN_POINTWISE_LOG, o.rows(LSE)); });
    refused("BAD_PARAM", "depends on itself", [&](Builder&, Operations& o) { Descriptor x = o.rows(98), y = o.rows(99); o.pointwise(x, CUDNN_POINTWISE_LOG, y), o.pointwise(y, CUDNN_POINTWISE_EXP, x); });
    for (int64_t HS : {12, 264}) {  // taken as a graph, but nothing can run it
        Builder b;
        cudnnHandle_t handle = nullptr;
        OK(cudnnCreate(&handle));
        EXPECT(!make_plan(b, {2, 13, 3, HS}, handle).plan && b.refused.starts_with("cuDNN has no engine for this shape on this GPU: the head size " + std::to_string(HS)));
        OK(cudnnDestroy(handle));
    }
}

TEST(what_the_library_refuses_is_refused) {
    for (const wrong_calls::WrongCall& call : wrong_calls::all("{}")) {
        const std::string answer = wrong_calls::ask(call);
        if (answer == wrong_calls::TAKEN) FAIL("%s: taken", call.name);
        else if (call.answer != wrong_calls::TAKEN && call.answer != wrong_calls::CRASHES && answer != call.answer) FAIL("%s: '%s', the library says '%s'", call.name, answer.c_str(), call.answer);
    }
}

// Allocating and loading kernels, which no capture allows; and handles and streams that are no more
TEST(calls_at_the_wrong_time) {
    Attention a({2, 13, 3, 8});
    OK(a.run(0));  // so that the capture has no first time in it
    cudaGraph_t graph = nullptr;
    cudnnHandle_t other = nullptr;
    quietly([&] {
        for (bool plan : {false, true}) {
            OK(cudaStreamBeginCapture(a.stream, cudaStreamCaptureModeThreadLocal));
            Builder b;
            if (plan) EXPECT(!make_plan(b, a.p, a.handle).plan && b.refused.find("a plan is built while a stream is captured") != std::string::npos);
            else EXPECT_EQ(cudnnCreate(&other), CUDNN_STATUS_EXECUTION_FAILED_CUDART);
            EXPECT_EQ(cudaStreamEndCapture(a.stream, &graph), cudaErrorStreamCaptureInvalidated);
        }
        OK(cudaStreamBeginCapture(a.stream, cudaStreamCaptureModeRelaxed));
        EXPECT_EQ(cudaStreamSynchronize(a.stream), cudaErrorStreamCaptureUnsupported);
        EXPECT_EQ(a.run(0), CUDNN_STATUS_EXECUTION_FAILED_CUDART);  // the capture is invalid
        EXPECT_EQ(cudaStreamEndCapture(a.stream, &graph), cudaErrorStreamCaptureInvalidated);
    });
    { Builder b; EXPECT(make_plan(b, a.p, a.handle).plan); }
    cudaStream_t gone = nullptr;
    OK(cudaStreamCreateWithFlags(&gone, cudaStreamNonBlocking));
    OK(cudnnSetStream(a.handle, gone)); OK(cudaStreamDestroy(gone));
    EXPECT_EQ(a.run(0), CUDNN_STATUS_BAD_PARAM);
    EXPECT_EQ(cudnnSetStream(a.handle, gone), CUDNN_STATUS_BAD_PARAM);
    OK(cudnnSetStream(a.handle, a.stream));
    OK(cudnnCreate(&other)); OK(cudnnDestroy(other));
    EXPECT_EQ(cudnnDestroy(other), CUDNN_STATUS_BAD_PARAM);
    EXPECT_EQ(cudnnSetStream(other, a.stream), CUDNN_STATUS_BAD_PARAM);
    { Builder b; EXPECT(!make_plan(b, a.p, other).plan && b.refused.find("no handle") != std::string::npos); }
}

TEST(executions_that_are_refused) {
    Attention a({2, 13, 3, 8});
    const auto refused = [&](cudnnStatus_t status, const char* text, int64_t uid, void* pointer, const char* workspace = nullptr) {
        const auto before = a.at;
        if (pointer) a.at[uid] = pointer;
        else a.at.erase(uid);
        EXPECT_EQ(a.run(1, workspace), status);
        const std::string why = reason();
        if (why.find(text) == std::string::npos) FAIL("'%s', expected '%s'", why.c_str(), text);
        a.at = before;
    };
    std::vector<float> on_host(4096);
    Buffer<char> small(4096);
    refused(CUDNN_STATUS_BAD_PARAM, "tensor 2 (2, 3, 8, 13) is not in the variant pack", K, nullptr);
    refused(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER, "not aligned to 16", DQ, a.dqkv.p + 1);
    refused(CUDNN_STATUS_EXECUTION_FAILED, "not in the device's memory", LSE, (void*)(((size_t)on_host.data() + 15) / 16 * 16));
    refused(CUDNN_STATUS_EXECUTION_FAILED, "not within one allocation", DOUT, a.dout.p + 8);
    refused(CUDNN_STATUS_EXECUTION_FAILED, "lies where tensor", DQ, a.dqkv.p + a.C);
    refused(CUDNN_STATUS_EXECUTION_FAILED, "lies where tensor", DELTA, a.lse.p);
    refused(CUDNN_STATUS_BAD_PARAM, "by value, but lies on the device", SCALE, small.p);
    refused(CUDNN_STATUS_EXECUTION_FAILED, "the workspace of 98560 bytes is not within", Q, a.qkv.p, small.p);
    OK(a.run(0)); OK(a.run(1));
    check(a);
}

TEST(the_choice_between_implementations) {
    Attention a({2, 13, 3, 8});
    OK(a.run(0));
    emu::cudnn_unbuildable() = 1;  // the second engine remains
    { Builder b; EXPECT(make_plan(b, a.p, a.handle).plan && b.refused.empty()); }
    emu::cudnn_unbuildable() = 2;
    { Builder b; EXPECT(!make_plan(b, a.p, a.handle).plan && b.refused.find("cannot be built") != std::string::npos); }
    emu::cudnn_unbuildable() = 0, emu::cudnn_refuses() = true;
    { Builder b; EXPECT(!make_plan(b, a.p, a.handle).plan && b.refused.find("has no engine") != std::string::npos); }
    emu::cudnn_refuses() = false, emu::cudnn_ticks() = 50;
    cudaEvent_t from = nullptr, to = nullptr;
    float ms = 0;
    OK(cudaEventCreate(&from)); OK(cudaEventCreate(&to));
    OK(cudaEventRecord(from, a.stream)); OK(a.run(1)); OK(cudaEventRecord(to, a.stream)); OK(cudaDeviceSynchronize()); OK(cudaEventElapsedTime(&ms, from, to));
    EXPECT(ms > 0.49f && ms < 0.53f);
    emu::cudnn_ticks() = 1000;
    emu::fail_call(1);
    EXPECT_EQ(cudnnSetStream(a.handle, a.stream), CUDNN_STATUS_EXECUTION_FAILED);
    OK(cudaEventDestroy(from)); OK(cudaEventDestroy(to));
    check(a);
}

// plans --here: one attempt is one line, and whatever becomes of it the next one is made.
TEST(attempts_on_the_gpu_that_is_here) {
    const Problem forward{1, 16, 2, 8}, backward{1, 16, 2, 8, true}, of_groups{1, 16, 4, 8, true, SEPARATE_GEMM, 2};
    const auto line = [](const Problem& p, bool deterministic) {
        std::string said;
        EXPECT(here::in_a_process([&] { printf("%s", here::Attempt().line("d12", p, deterministic).c_str()); return 0; }, &said) == 0);
        return said;
    };
    EXPECT(line(forward, true).starts_with("PASS d12 "));
    for (const Problem& p : {backward, of_groups}) for (bool deterministic : {true, false}) EXPECT(line(p, deterministic).starts_with("PASS d12 "));
    { const Gpu gpu(90, 92500); EXPECT(line(backward, true).find("engine 6: TILE_M 2, TILE_N 1, KERNEL_CFG 2, STREAM_K 0, TILE_CGA_M 0, STAGES 4") != std::string::npos); }
    { const Gpu gpu(90, 91001); EXPECT(line(forward, true).starts_with("SKIP d12 ")); }
    emu::cudnn_refuses() = true;
    for (const Problem& p : {forward, backward}) EXPECT(line(p, true).starts_with("FAIL d12 ") && line(p, true).find("nothing is found, on request") != std::string::npos);
    emu::cudnn_refuses() = false;
    for (long n = 1; n < 400; n += 7) {  // whichever call fails, its name is in the line
        emu::fail_call(n);
        const std::string said = line(backward, true);
        if (said.starts_with("PASS")) { EXPECT(n > 100); break; }
        EXPECT(said.starts_with("FAIL d12 ") && (said.find(": unknown error") != std::string::npos || said.find("on request") != std::string::npos));
    }
    emu::fail_call(0);
    EXPECT_EQ(here::in_a_process([]() -> int { abort(); }), 128 + SIGABRT);
    EXPECT_EQ(here::in_a_process([] { for (;;) sleep(1); return 0; }, nullptr, 1), 128 + SIGALRM);
}
