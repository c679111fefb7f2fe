// attention_graph.h: causal attention, forward and backward, as an operation graph of cuDNN's backend API: tensors and operations between
// them, in which the library recognises flash attention and runs it as one kernel or three. Host code only; nothing here needs a GPU.
// (cuDNN documentation, "Graph API": operation descriptors; "Supported Graph Patterns": the operations of fused flash attention)
//
// It is the composite graph, not the single attention operation of newer versions: every version from 9.8 on accepts it, and on sm_80 and
// sm_90 it gets the same engines (dev/LOG.md, 25).
#pragma once
#include <cudnn_graph.h>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <vector>

namespace attention_graph {
// UIDs of the tensors that a plan is given when it runs. From FIRST_VIRTUAL on: virtual tensors, which are never in memory.
enum Uid : int64_t { Q = 1, K, V, OUT, LSE, DOUT, DQ, DK, DV, DELTA, DQ_ACCUM, SCALE, HIDDEN, ONE, WINDOW, FIRST_VIRTUAL };

// How the backward accumulates dq, whose terms come from the blocks of all keys. All but ATOMIC are deterministic: bitwise identical each time.
enum DqAccumulation : int {
    ATOMIC,         // atomic additions to DQ_ACCUM in fp32, in any order: non-deterministic
    SEPARATE_GEMM,  // dS is stored, T x T a head in bf16, and dq = dS K is a GEMM of its own
    SEMAPHORE,      // blocks add to DQ_ACCUM in a fixed order, by semaphores (sm_90; slower than SEPARATE_GEMM, says cudnn-frontend, but without its memory)
    SM100,          // by the kernel of sm_100 itself, without extra memory
    NO_DETERMINISTIC_ENGINE  // none is known for this GPU
};
// By the GPU's compute capability (90: an H100) and cudnnGetVersion(), as in cudnn-frontend 1.32 for a deterministic
// backward; that on sm_100 9.18.1 is the first, and not 9.18.0, is Transformer Engine's rule (its pull request 2584).
constexpr DqAccumulation dq_accumulation(bool deterministic, int sm, size_t version) {
    if (!deterministic) return ATOMIC;
    if (sm / 10 == 10 || sm / 10 == 11) return (sm == 100 || sm == 103) && version >= 91801 ? SM100 : NO_DETERMINISTIC_ENGINE;
    return sm == 90 && version >= 92500 ? SEMAPHORE : SEPARATE_GEMM;
}

struct Problem {
    int64_t B, T, NH, HS;
    bool backward = false;
    DqAccumulation dq = SEPARATE_GEMM;
    int64_t NKV = NH;  // heads of keys and values
    int64_t window = 0;  // tokens that a token attends to, itself among them; 0: all before it
    auto operator<=>(const Problem&) const = default;
    constexpr int64_t row() const { return (NH + 2 * NKV) * HS; }  // of qkv
    constexpr bool has_dq_accum() const { return backward && (dq == ATOMIC || dq == SEMAPHORE); }
};

// Why cuDNN is not used for a problem; empty: it may be. Before 9.16 gradients were wrong where the last tile of keys is not full; 9.10.0 and
// 9.10.1 have bugs that cudnn-frontend does not specify, but it uses them for neither pass; 9.28 crashes at B = T = NH = 1 (LOG 25).
inline std::string not_asked(const Problem& p, size_t version) {
    if (p.T == 1) return "one position has nothing to attend to";
    if (version < 90800 || (version < 91600 && p.backward && p.T % 128)) return "this version is too old for it";
    if (version == 91000 || version == 91001) return "9.10.0 and 9.10.1 have bugs in attention, 9.10.2 and newer have not";
    // for larger heads the kernel of sm_100 has other knobs, untested
    if (p.backward && (p.dq == NO_DETERMINISTIC_ENGINE || (p.dq == SM100 && p.HS > 128))) return "no backward that gives bitwise identical results each time on this GPU";
    return "";
}

// The memory that a run reserves for a plan, in bytes: DELTA, DQ_ACCUM, and the library's workspace: the matrix of dS, semaphores, or an fp32
// accumulator of its own on GPUs before sm_90 (test/cudnn checks these sizes).
constexpr size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }
constexpr size_t heads(const Problem& p) { return (size_t)p.B * (size_t)p.NH; }
constexpr size_t delta_bytes(const Problem& p) { return round_up(heads(p) * (size_t)p.T * 4, 256); }
constexpr size_t dq_accum_bytes(const Problem& p) { return !p.has_dq_accum() ? 0 : round_up(heads(p) * (size_t)p.T * (size_t)p.HS * 4, 256); }
constexpr size_t workspace_bytes(const Problem& p) {
    const size_t T = round_up((size_t)p.T, 64), HS = (size_t)p.HS, some = 4096;
    const size_t of_heads = p.NKV < p.NH ? heads(p) * T * HS * 2 * 2 : 0;  // dk and dv of each query head in bf16, before those of a group are added; by SM100 in fp32
    if (!p.backward || p.dq == NO_DETERMINISTIC_ENGINE) return some;
    if (p.dq == SM100) return some + 2 * of_heads;
    return some + of_heads + heads(p) * (p.dq == SEPARATE_GEMM ? T * round_up(T, 128) * 2 : p.dq == SEMAPHORE ? T / 8 : T * (HS <= 64 ? 64 : round_up(HS, 128)) * 4);
}
constexpr size_t backward_bytes(const Problem& p) { return delta_bytes(p) + dq_accum_bytes(p) + workspace_bytes(p); }
// sm 0: the GPU is not known yet; the most that any needs.
constexpr size_t backward_bytes(Problem p, bool deterministic, int sm, size_t version) {
    p.backward = true, p.dq = dq_accumulation(deterministic, sm, version);
    size_t bytes = backward_bytes(p);
    if (sm == 0 && deterministic) for (DqAccumulation dq : {SEMAPHORE, SM100}) p.dq = dq, bytes = std::max(bytes, backward_bytes(p));
    return bytes;
}

using Descriptor = cudnnBackendDescriptor_t;
using Four = std::array<int64_t, 4>;

inline std::string last_error() {
    char why[512] = "";
    cudnnGetLastErrorString(why, sizeof why);
    why[strcspn(why, "\n")] = 0;  // the first of a list of reasons
    return *why ? std::string(": ") + why : "";
}

// Creates descriptors and keeps the first error: after it cuDNN is not called again.
class Builder {
public:
    std::string refused;  // empty: nothing
    Builder() = default;
    Builder(const Builder&) = delete;
    ~Builder() { for (auto d = made.rbegin(); d != made.rend(); ++d) cudnnBackendDestroyDescriptor(*d); }

    Descriptor make(cudnnBackendDescriptorType_t type) {
        Descriptor d = nullptr;
        if (take(cudnnBackendCreateDescriptor(type, &d), "cudnnBackendCreateDescriptor")) made.push_back(d);
        return d;
    }
    template <class X> void set(Descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const X* values, int64_t count) {
        if (refused.empty()) take(cudnnBackendSetAttribute(d, name, type, count, values), "cudnnBackendSetAttribute");
    }
    template <class X> void set(Descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, X value) { set(d, name, type, &value, 1); }
    void link(Descriptor d, cudnnBackendAttributeName_t name, Descriptor to) { set(d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, to); }
    void finalize(Descriptor d) { if (refused.empty()) take(cudnnBackendFinalize(d), "cudnnBackendFinalize"); }
    bool take(cudnnStatus_t status, const char* call) {
        if (status == CUDNN_STATUS_SUCCESS) return true;
        if (refused.empty()) refused = std::string(call) + ": " + cudnnGetErrorString(status) + last_error();
        return false;
    }

private:
    std::vector<Descriptor> made;
};

// Operations of one problem. A function returns its result's tensor.
class Operations {
public:
    Operations(Builder& builder, const Problem& problem) : b(builder), p(problem) {}

    // A row of qkv (B, T, QKV) is NH heads of q, NKV of k and NKV of v, of HS each; out is (B, T, NH * HS).
    int64_t how_many(Uid uid) const { return uid == K || uid == V || uid == DK || uid == DV ? p.NKV : p.NH; }
    Descriptor heads(Uid uid, int64_t row) { return tensor(uid, CUDNN_DATA_BFLOAT16, {p.B, how_many(uid), p.T, p.HS}, {p.T * row, p.HS, row, 1}); }
    Descriptor heads_transposed(Uid uid, int64_t row) { return tensor(uid, CUDNN_DATA_BFLOAT16, {p.B, how_many(uid), p.HS, p.T}, {p.T * row, p.HS, 1, row}); }
    Descriptor rows(int64_t uid) { return tensor(uid, CUDNN_DATA_FLOAT, {p.B, p.NH, p.T, 1}, {p.NH * p.T, p.T, 1, 1}); }
    Descriptor number(Uid uid, cudnnDataType_t type = CUDNN_DATA_FLOAT) { return tensor(uid, type, {1, 1, 1, 1}, {1, 1, 1, 1}, true); }  // a scalar, passed by value by the host
    Descriptor scores(cudnnDataType_t type = CUDNN_DATA_FLOAT) {
        return tensor(next_virtual++, type, {p.B, p.NH, p.T, p.T}, {p.NH * p.T * p.T, p.T * p.T, p.T, 1});
    }
    Descriptor tensor(int64_t uid, cudnnDataType_t type, Four dims, Four strides, bool by_value = false) {
        Descriptor t = b.make(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
        b.set(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, uid);
        b.set(t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, type);
        b.set(t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, dims.data(), 4);
        b.set(t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, strides.data(), 4);
        b.set(t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, (int64_t)16);
        b.set(t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, uid >= FIRST_VIRTUAL);
        b.set(t, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, by_value);
        b.finalize(t);
        return t;
    }
    int64_t new_virtual() { return next_virtual++; }

    // c = a b, batched matrix products over the last two dimensions
    Descriptor multiply(Descriptor c, Descriptor a, Descriptor with) {
        Descriptor how = b.make(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
        b.set(how, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
        b.finalize(how);
        return operation(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, CUDNN_ATTR_OPERATION_MATMUL_DESC, how,
                         {{CUDNN_ATTR_OPERATION_MATMUL_ADESC, a}, {CUDNN_ATTR_OPERATION_MATMUL_BDESC, with}}, CUDNN_ATTR_OPERATION_MATMUL_CDESC, c);
    }
    // dk or dv = a b, summed over the query heads of a group: a product for each query head, and a sum that takes them NH / NKV to one
    Descriptor multiply_and_sum_group(Uid uid, Descriptor a, Descriptor with) {
        Descriptor c = heads(uid, p.row());
        if (p.NKV == p.NH) return multiply(c, a, with);
        return reduce(c, CUDNN_REDUCE_TENSOR_ADD, multiply(tensor(next_virtual++, CUDNN_DATA_BFLOAT16, {p.B, p.NH, p.T, p.HS}, {p.NH * p.T * p.HS, p.T * p.HS, p.HS, 1}), a, with));
    }
    // y = mode(x, with, where), element by element; (…, 1) is broadcast to (…, n)
    Descriptor pointwise(Descriptor y, cudnnPointwiseMode_t mode, Descriptor x, Descriptor with = nullptr, Descriptor where = nullptr,
                         cudnnDataType_t math = CUDNN_DATA_FLOAT, int64_t axis = -1) {
        Descriptor how = b.make(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
        b.set(how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode);
        b.set(how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, math);
        if (axis >= 0) b.set(how, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, axis);
        b.finalize(how);
        return operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how,
                         {{CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x}, {CUDNN_ATTR_OPERATION_POINTWISE_BDESC, with},
                          {CUDNN_ATTR_OPERATION_POINTWISE_TDESC, where}}, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    }
    // y = sum or maximum along the last dimension
    Descriptor reduce(Descriptor y, cudnnReduceTensorOp_t op, Descriptor x) {
        Descriptor how = b.make(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
        b.set(how, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, op);
        b.set(how, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
        b.finalize(how);
        return operation(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, CUDNN_ATTR_OPERATION_REDUCTION_DESC, how,
                         {{CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x}}, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
    }
    // A reshape: here a transposition, by y's strides
    Descriptor transpose(Descriptor y, Descriptor x) {
        return operation(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, {}, nullptr, {{CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x}}, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y);
    }
    Descriptor transposed_scores() {
        return tensor(next_virtual++, CUDNN_DATA_BFLOAT16, {p.B, p.NH, p.T, p.T}, {p.NH * p.T * p.T, p.T * p.T, 1, p.T});
    }

    // The causal mask: scores of keys after their query become -infinity; and of those before its window, where query >= key + window.
    Descriptor apply_mask(Descriptor x) {
        const auto index = [&](int64_t axis) { return pointwise(scores(CUDNN_DATA_INT32), CUDNN_POINTWISE_GEN_INDEX, x, nullptr, nullptr, CUDNN_DATA_INT32, axis); };
        Descriptor query = index(2), key = index(3);
        Descriptor seen = pointwise(scores(CUDNN_DATA_BOOLEAN), CUDNN_POINTWISE_CMP_GE, query, key, nullptr, CUDNN_DATA_BOOLEAN);
        x = pointwise(scores(), CUDNN_POINTWISE_BINARY_SELECT, x, number(HIDDEN), seen);
        if (p.window == 0) return x;
        query = index(2), key = index(3);
        Descriptor end = pointwise(scores(CUDNN_DATA_INT32), CUDNN_POINTWISE_ADD, key, number(WINDOW, CUDNN_DATA_INT32), nullptr, CUDNN_DATA_INT32);
        seen = pointwise(scores(CUDNN_DATA_BOOLEAN), CUDNN_POINTWISE_CMP_GT, end, query, nullptr, CUDNN_DATA_BOOLEAN);
        return pointwise(scores(), CUDNN_POINTWISE_BINARY_SELECT, x, number(HIDDEN), seen);
    }

    // The operation graph of all operations. handle: null for a GPU that is not here.
    Descriptor graph(cudnnHandle_t handle) {
        Descriptor g = b.make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
        b.set(g, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, operations.data(), (int64_t)operations.size());
        if (handle) b.set(g, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, handle);
        b.finalize(g);
        return g;
    }

private:
    struct Input { cudnnBackendAttributeName_t name; Descriptor tensor; };
    Descriptor operation(cudnnBackendDescriptorType_t type, cudnnBackendAttributeName_t how_name, Descriptor how, std::initializer_list<Input> inputs,
                         cudnnBackendAttributeName_t output_name, Descriptor output) {
        Descriptor o = b.make(type);
        if (how) b.link(o, how_name, how);
        for (const Input& i : inputs) if (i.tensor) b.link(o, i.name, i.tensor);
        b.link(o, output_name, output);
        b.finalize(o);
        operations.push_back(o);
        return output;
    }

    Builder& b;
    const Problem p;
    int64_t next_virtual = FIRST_VIRTUAL;
    std::vector<Descriptor> operations;
};

// S = scale Q K^T, masked where key > query;  P = exp(S - row_max) / row_sum,  lse = row_max + log(row_sum),  out = P V
inline void forward(Operations& ops, const Problem& p) {
    const int64_t C = p.NH * p.HS;
    Descriptor q = ops.heads(Q, p.row()), k = ops.heads_transposed(K, p.row()), v = ops.heads(V, p.row());
    // 1. scores
    Descriptor s = ops.multiply(ops.scores(), q, k);
    s = ops.pointwise(ops.scores(), CUDNN_POINTWISE_MUL, s, ops.number(SCALE));
    s = ops.apply_mask(s);
    // 2. softmax
    Descriptor row_max = ops.reduce(ops.rows(ops.new_virtual()), CUDNN_REDUCE_TENSOR_MAX, s);
    Descriptor e = ops.pointwise(ops.scores(), CUDNN_POINTWISE_EXP, ops.pointwise(ops.scores(), CUDNN_POINTWISE_SUB, s, row_max));
    Descriptor row_sum = ops.reduce(ops.rows(ops.new_virtual()), CUDNN_REDUCE_TENSOR_ADD, e);
    Descriptor log = ops.pointwise(ops.rows(ops.new_virtual()), CUDNN_POINTWISE_LOG, row_sum);
    ops.pointwise(ops.rows(LSE), CUDNN_POINTWISE_ADD, row_max, log);
    Descriptor probs = ops.pointwise(ops.scores(CUDNN_DATA_BFLOAT16), CUDNN_POINTWISE_DIV, e, row_sum);
    // 3. values
    ops.multiply(ops.heads(OUT, C), probs, v);
}

// delta = rowsum(dout * out);  P = exp(scale Q K^T - lse), masked;  dV = P^T dout,  dS = scale P (dout V^T - delta),
// dK = dS^T Q,  dQ = dS K
inline void backward(Operations& ops, const Problem& p) {
    const int64_t C = p.NH * p.HS;
    Descriptor q = ops.heads(Q, p.row()), k = ops.heads_transposed(K, p.row()), v = ops.heads_transposed(V, p.row());
    Descriptor out = ops.heads(OUT, C), dout = ops.heads(DOUT, C), scale = ops.number(SCALE);
    const Four dims{p.B, p.NH, p.T, p.HS}, packed{C * p.T, p.HS * p.T, p.HS, 1};
    // 1. delta, which is in memory between the library's kernels
    Descriptor product = ops.pointwise(ops.tensor(ops.new_virtual(), CUDNN_DATA_FLOAT, dims, packed), CUDNN_POINTWISE_MUL, dout, out);
    Descriptor delta = ops.reduce(ops.rows(ops.new_virtual()), CUDNN_REDUCE_TENSOR_ADD, product);
    delta = ops.pointwise(ops.rows(DELTA), CUDNN_POINTWISE_MUL, delta, ops.number(ONE));  // the pattern multiplies by dropout's scale here
    // 2. P, dV
    Descriptor s = ops.multiply(ops.scores(), q, k);
    s = ops.pointwise(ops.scores(), CUDNN_POINTWISE_MUL, s, scale);
    s = ops.pointwise(ops.scores(), CUDNN_POINTWISE_SUB, s, ops.rows(LSE));
    Descriptor probs = ops.pointwise(ops.scores(), CUDNN_POINTWISE_EXP, ops.apply_mask(s));
    ops.multiply_and_sum_group(DV, ops.transpose(ops.transposed_scores(), probs), dout);
    // 3. dS, dK
    Descriptor ds = ops.multiply(ops.scores(), dout, v);
    ds = ops.pointwise(ops.scores(), CUDNN_POINTWISE_SUB, ds, delta);
    ds = ops.pointwise(ops.scores(), CUDNN_POINTWISE_MUL, ds, probs);
    ds = ops.pointwise(ops.scores(CUDNN_DATA_BFLOAT16), CUDNN_POINTWISE_MUL, ds, scale);
    ops.multiply_and_sum_group(DK, ops.transpose(ops.transposed_scores(), ds), q);
    // 4. dQ
    Descriptor keys = ops.transpose(ops.tensor(ops.new_virtual(), CUDNN_DATA_BFLOAT16, {p.B, p.NKV, p.T, p.HS}, {p.T * p.row(), p.HS, p.row(), 1}), k);
    if (!p.has_dq_accum()) ops.multiply(ops.heads(DQ, p.row()), ds, keys);
    else ops.pointwise(ops.heads(DQ, p.row()), CUDNN_POINTWISE_IDENTITY, ops.multiply(ops.tensor(DQ_ACCUM, CUDNN_DATA_FLOAT, dims, packed), ds, keys));
}

// An execution plan, and the bytes of workspace that it needs.
struct Plan { Descriptor plan = nullptr; int64_t workspace = 0; };

struct Knob { cudnnBackendKnobType_t type; int64_t value; };
struct Engine { int64_t number = -1; std::vector<Knob> knobs; };  // -1: the heuristics choose

// The heuristics cannot be asked for a deterministic engine: on sm_100 they propose a kernel for sm_80, and the numerical notes of all plans are
// alike. So the engine is named, as in cudnn-frontend: the knob STAGES selects how dq is accumulated, the others the tile that belongs to it.
inline Engine engine_for(const Problem& p, size_t version) {
    if (!p.backward || (p.dq != SM100 && p.dq != SEMAPHORE)) return {};
    const int64_t stages = p.dq == SM100 ? 2 : 4, number = p.dq == SM100 ? 5 : 6;
    if (version < 92300) return {number, {{CUDNN_KNOB_TYPE_KERNEL_CFG, 31}, {CUDNN_KNOB_TYPE_STAGES, stages}}};
    return {number, {{CUDNN_KNOB_TYPE_TILE_M, p.dq == SM100 ? 3 : 2}, {CUDNN_KNOB_TYPE_TILE_N, p.dq == SM100 ? 2 : 1}, {CUDNN_KNOB_TYPE_KERNEL_CFG, 2},
                     {CUDNN_KNOB_TYPE_STREAM_K, 0}, {CUDNN_KNOB_TYPE_TILE_CGA_M, 0}, {CUDNN_KNOB_TYPE_STAGES, stages}}};
}
inline Descriptor configure(Builder& b, const Engine& engine, Descriptor graph, Descriptor device) {
    Descriptor e = b.make(CUDNN_BACKEND_ENGINE_DESCRIPTOR), config = b.make(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    b.link(e, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph);
    b.set(e, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, engine.number);
    if (device) b.link(e, CUDNN_ATTR_ENGINE_DEVICEPROP, device);
    b.finalize(e);
    std::vector<Descriptor> choices;
    for (const Knob& knob : engine.knobs) {
        Descriptor choice = choices.emplace_back(b.make(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR));
        b.set(choice, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, knob.type);
        b.set(choice, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, knob.value);
        b.finalize(choice);
    }
    b.link(config, CUDNN_ATTR_ENGINECFG_ENGINE, e);
    b.set(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, choices.data(), (int64_t)choices.size());
    b.finalize(config);
    return config;
}

// A plan by the engine that engine_for names, or else by the first engine of the heuristics that can be built; null if there is none, with the
// reason in `b`. handle: of the GPU that is here; else `device` describes one (CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, since 9.8).
inline Plan make_plan(Builder& b, const Problem& p, cudnnHandle_t handle, Descriptor device = nullptr) {
    Operations ops(b, p);
    p.backward ? backward(ops, p) : forward(ops, p);
    Descriptor graph = ops.graph(handle);
    std::vector<Descriptor> configs;
    if (const Engine engine = engine_for(p, cudnnGetVersion()); engine.number >= 0) configs = {configure(b, engine, graph, device)};
    else {
        Descriptor heuristics = b.make(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
        b.link(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
        b.set(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, CUDNN_HEUR_MODE_A);
        if (device) b.link(heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, device);
        b.finalize(heuristics);
        constexpr int64_t MOST = 8;
        for (int64_t i = 0; i < MOST; i++) configs.push_back(b.make(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
        int64_t found = 0;
        if (b.refused.empty()) b.take(cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, MOST, &found, configs.data()),
                                      "cudnnBackendGetAttribute");
        configs.resize((size_t)std::min(found, MOST));
        if (b.refused.empty() && found == 0) b.refused = "cuDNN has no engine for this shape on this GPU" + last_error();
    }
    for (size_t i = 0; i < configs.size() && b.refused.empty(); i++) {
        Descriptor plan = b.make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
        if (handle) b.set(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, handle);
        if (device) b.link(plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, device);
        b.link(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configs[i]);
        b.finalize(plan);
        int64_t workspace = 0, one = 0;
        if (b.refused.empty()) b.take(cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &one, &workspace), "cudnnBackendGetAttribute");
        if (b.refused.empty()) return {plan, workspace};
        if (i + 1 < configs.size()) b.refused.clear();  // the next engine may be built
    }
    return {};
}

// tensors: all that the plan takes except the scalars, which are passed by value; before 9.10 cuDNN did not accept -infinity
inline void execute(Builder& b, const Plan& plan, const Problem& p, std::map<int64_t, const void*> tensors, void* workspace, cudnnHandle_t handle, cudaStream_t stream) {
    const float scale = 1 / std::sqrt((float)p.HS), one = 1;
    const float hidden = cudnnGetVersion() < 91000 ? std::numeric_limits<float>::lowest() : -INFINITY;
    tensors[SCALE] = &scale, tensors[HIDDEN] = &hidden;
    const int32_t window = (int32_t)p.window;
    if (p.backward) tensors[ONE] = &one;
    if (p.window) tensors[WINDOW] = &window;
    std::vector<int64_t> uids;
    std::vector<const void*> pointers;
    for (auto [uid, pointer] : tensors) uids.push_back(uid), pointers.push_back(pointer);
    Descriptor pack = b.make(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    b.set(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, uids.data(), (int64_t)uids.size());
    b.set(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, pointers.data(), (int64_t)pointers.size());
    b.set(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace);
    b.finalize(pack);
    if (b.refused.empty()) b.take(cudnnSetStream(handle, stream), "cudnnSetStream");
    if (b.refused.empty()) b.take(cudnnBackendExecute(handle, plan.plan, pack), "cudnnBackendExecute");
}
}  // namespace attention_graph
