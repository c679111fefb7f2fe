// attention_graph.h: causal attention, forward and backward, as cuDNN's graph API wants to be told of it: tensors, and operations
// between them, among which the library recognises flash attention and runs it as one kernel or three. Host code alone; nothing
// here needs a GPU. (cuDNN backend API, "Graph API": operation descriptors; which operations make attention forward and backward is
// in the documentation's "Supported Graph Patterns", fused flash attention)
//
// The composite graph and not the one operation that newer versions have for attention: every version from 9.8 on takes it, and on
// sm_80 and sm_90 it comes to the same engines (dev/LOG.md, 25).
#pragma once
#include <cudnn_graph.h>
#include <array>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

namespace attention_graph {
// What a plan is given when it runs, by these numbers. Above them are tensors that exist in registers only.
enum Uid : int64_t { Q = 1, K, V, OUT, LSE, DOUT, DQ, DK, DV, DOT, DQ_SUMS, SCALE, HIDDEN, ONE, FIRST_VIRTUAL };

struct Problem {
    int64_t B, T, NH, HS;
    bool backward = false;
    bool sums_in_order = true;  // of dq's terms, for the same bits each time; else blocks add to DQ_SUMS in fp32 as they come
    auto operator<=>(const Problem&) const = default;
};

// What a plan may take of the memory that a run sets apart for it, in bytes: DOT, DQ_SUMS, and what the library wants besides: a T x T
// matrix of ds a head where dq's terms keep their order, else sums of its own on GPUs before sm_90 (test/cudnn looks whether it is so).
constexpr size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }
constexpr size_t heads(const Problem& p) { return (size_t)p.B * (size_t)p.NH; }
constexpr size_t dot_bytes(const Problem& p) { return round_up(heads(p) * (size_t)p.T * 4, 256); }
constexpr size_t sums_bytes(const Problem& p) { return p.sums_in_order ? 0 : round_up(heads(p) * (size_t)p.T * (size_t)p.HS * 4, 256); }
constexpr size_t workspace_bytes(const Problem& p) {
    const size_t T = (size_t)p.T, HS = (size_t)p.HS, some = 4096;
    if (!p.backward) return some;
    return some + heads(p) * round_up(T, 64) * (p.sums_in_order ? round_up(T, 128) * 2 : (HS <= 64 ? 64 : round_up(HS, 128)) * 4);
}

using Descriptor = cudnnBackendDescriptor_t;
using Four = std::array<int64_t, 4>;

inline std::string last_error() {
    char why[512] = "";
    cudnnGetLastErrorString(why, sizeof why);
    why[strcspn(why, "\n")] = 0;  // of a list of reasons the first
    return *why ? std::string(": ") + why : "";
}

// Descriptors as they are made, and the first thing that cuDNN did not take: after it nothing more is asked.
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

    // A row of qkv (B, T, 3C) is q, k and v, heads of HS each; out is (B, T, C).
    Descriptor heads(Uid uid, int64_t row) { return tensor(uid, CUDNN_DATA_BFLOAT16, {p.B, p.NH, p.T, p.HS}, {p.T * row, p.HS, row, 1}); }
    Descriptor heads_transposed(Uid uid, int64_t row) { return tensor(uid, CUDNN_DATA_BFLOAT16, {p.B, p.NH, p.HS, p.T}, {p.T * row, p.HS, 1, row}); }
    Descriptor rows(int64_t uid) { return tensor(uid, CUDNN_DATA_FLOAT, {p.B, p.NH, p.T, 1}, {p.NH * p.T, p.T, 1, 1}); }
    Descriptor number(Uid uid) { return tensor(uid, CUDNN_DATA_FLOAT, {1, 1, 1, 1}, {1, 1, 1, 1}, true); }  // handed over by the host
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

    // c = a b, products of the last two dimensions
    Descriptor multiply(Descriptor c, Descriptor a, Descriptor with) {
        Descriptor how = b.make(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
        b.set(how, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
        b.finalize(how);
        return operation(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, CUDNN_ATTR_OPERATION_MATMUL_DESC, how,
                         {{CUDNN_ATTR_OPERATION_MATMUL_ADESC, a}, {CUDNN_ATTR_OPERATION_MATMUL_BDESC, with}}, CUDNN_ATTR_OPERATION_MATMUL_CDESC, c);
    }
    // y = mode(x, with, where), element by element; (…, 1) goes along with (…, n)
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
    // The same elements under other dimensions: here a transposition, by y's strides
    Descriptor transpose(Descriptor y, Descriptor x) {
        return operation(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, {}, nullptr, {{CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x}}, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y);
    }
    Descriptor transposed_scores() {
        return tensor(next_virtual++, CUDNN_DATA_BFLOAT16, {p.B, p.NH, p.T, p.T}, {p.NH * p.T * p.T, p.T * p.T, 1, p.T});
    }

    // Scores of keys after their query become -infinity.
    Descriptor hide(Descriptor x) {
        const auto index = [&](int64_t axis) { return pointwise(scores(CUDNN_DATA_INT32), CUDNN_POINTWISE_GEN_INDEX, x, nullptr, nullptr, CUDNN_DATA_INT32, axis); };
        Descriptor query = index(2), key = index(3);
        Descriptor seen = pointwise(scores(CUDNN_DATA_BOOLEAN), CUDNN_POINTWISE_CMP_GE, query, key, nullptr, CUDNN_DATA_BOOLEAN);
        return pointwise(scores(), CUDNN_POINTWISE_BINARY_SELECT, x, number(HIDDEN), seen);
    }

    // All of them, as a graph. Without a handle: for a GPU that is not here.
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

// s = scale q k^T, hidden where key > query;  p = exp(s - m) / sum of it,  lse = m + log of that sum,  out = p v
inline void forward(Operations& ops, const Problem& p) {
    const int64_t C = p.NH * p.HS;
    Descriptor q = ops.heads(Q, 3 * C), k = ops.heads_transposed(K, 3 * C), v = ops.heads(V, 3 * C);
    // 1. scores
    Descriptor s = ops.multiply(ops.scores(), q, k);
    s = ops.pointwise(ops.scores(), CUDNN_POINTWISE_MUL, s, ops.number(SCALE));
    s = ops.hide(s);
    // 2. softmax
    Descriptor max = ops.reduce(ops.rows(ops.new_virtual()), CUDNN_REDUCE_TENSOR_MAX, s);
    Descriptor e = ops.pointwise(ops.scores(), CUDNN_POINTWISE_EXP, ops.pointwise(ops.scores(), CUDNN_POINTWISE_SUB, s, max));
    Descriptor sum = ops.reduce(ops.rows(ops.new_virtual()), CUDNN_REDUCE_TENSOR_ADD, e);
    Descriptor log = ops.pointwise(ops.rows(ops.new_virtual()), CUDNN_POINTWISE_LOG, sum);
    ops.pointwise(ops.rows(LSE), CUDNN_POINTWISE_ADD, max, log);
    Descriptor weights = ops.pointwise(ops.scores(CUDNN_DATA_BFLOAT16), CUDNN_POINTWISE_DIV, e, sum);
    // 3. values
    ops.multiply(ops.heads(OUT, C), weights, v);
}

// dot = sum of dout out;  p = exp(scale q k^T - lse), hidden;  dv = p^T dout,  ds = scale p (dout v^T - dot),
// dk = ds^T q,  dq = ds k
inline void backward(Operations& ops, const Problem& p) {
    const int64_t C = p.NH * p.HS;
    Descriptor q = ops.heads(Q, 3 * C), k = ops.heads_transposed(K, 3 * C), v = ops.heads_transposed(V, 3 * C);
    Descriptor out = ops.heads(OUT, C), dout = ops.heads(DOUT, C), scale = ops.number(SCALE);
    const Four dims{p.B, p.NH, p.T, p.HS}, packed{C * p.T, p.HS * p.T, p.HS, 1};
    // 1. dot, which stays in memory between the library's kernels
    Descriptor product = ops.pointwise(ops.tensor(ops.new_virtual(), CUDNN_DATA_FLOAT, dims, packed), CUDNN_POINTWISE_MUL, dout, out);
    Descriptor dot = ops.reduce(ops.rows(ops.new_virtual()), CUDNN_REDUCE_TENSOR_ADD, product);
    dot = ops.pointwise(ops.rows(DOT), CUDNN_POINTWISE_MUL, dot, ops.number(ONE));  // where dropout's scale would be: the pattern has it
    // 2. weights, dv
    Descriptor s = ops.multiply(ops.scores(), q, k);
    s = ops.pointwise(ops.scores(), CUDNN_POINTWISE_MUL, s, scale);
    s = ops.pointwise(ops.scores(), CUDNN_POINTWISE_SUB, s, ops.rows(LSE));
    Descriptor weights = ops.pointwise(ops.scores(), CUDNN_POINTWISE_EXP, ops.hide(s));
    ops.multiply(ops.heads(DV, 3 * C), ops.transpose(ops.transposed_scores(), weights), dout);
    // 3. ds, dk
    Descriptor ds = ops.multiply(ops.scores(), dout, v);
    ds = ops.pointwise(ops.scores(), CUDNN_POINTWISE_SUB, ds, dot);
    ds = ops.pointwise(ops.scores(), CUDNN_POINTWISE_MUL, ds, weights);
    ds = ops.pointwise(ops.scores(CUDNN_DATA_BFLOAT16), CUDNN_POINTWISE_MUL, ds, scale);
    ops.multiply(ops.heads(DK, 3 * C), ops.transpose(ops.transposed_scores(), ds), q);
    // 4. dq
    Descriptor keys = ops.transpose(ops.tensor(ops.new_virtual(), CUDNN_DATA_BFLOAT16, dims, {p.T * 3 * C, p.HS, 3 * C, 1}), k);
    if (p.sums_in_order) ops.multiply(ops.heads(DQ, 3 * C), ds, keys);
    else ops.pointwise(ops.heads(DQ, 3 * C), CUDNN_POINTWISE_IDENTITY, ops.multiply(ops.tensor(DQ_SUMS, CUDNN_DATA_FLOAT, dims, packed), ds, keys));
}

// What runs, and the bytes that it needs while it does.
struct Plan { Descriptor plan = nullptr; int64_t workspace = 0; };

// The first of the ways that the library proposes which it can build; null if there is none, and why in `b`. handle: of the GPU that is
// here; else `device` describes one (CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, since 9.8).
inline Plan make_plan(Builder& b, const Problem& p, cudnnHandle_t handle, Descriptor device = nullptr) {
    Operations ops(b, p);
    p.backward ? backward(ops, p) : forward(ops, p);
    Descriptor heuristics = b.make(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    b.link(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, ops.graph(handle));
    b.set(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, CUDNN_HEUR_MODE_A);
    if (device) b.link(heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, device);
    b.finalize(heuristics);
    constexpr int64_t MOST = 8;
    std::array<Descriptor, MOST> ways;
    for (Descriptor& way : ways) way = b.make(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    int64_t found = 0;
    if (b.refused.empty()) b.take(cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, MOST, &found, ways.data()),
                                  "cudnnBackendGetAttribute");
    if (b.refused.empty() && found == 0) b.refused = "cuDNN knows no way for this shape on this GPU" + last_error();
    for (int64_t i = 0; i < found && b.refused.empty(); i++) {
        Descriptor plan = b.make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
        if (handle) b.set(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, handle);
        if (device) b.link(plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, device);
        b.link(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, ways[(size_t)i]);
        b.finalize(plan);
        int64_t workspace = 0, one = 0;
        if (b.refused.empty()) b.take(cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &one, &workspace), "cudnnBackendGetAttribute");
        if (b.refused.empty()) return {plan, workspace};
        if (i + 1 < found) b.refused.clear();  // the next way may be one
    }
    return {};
}
}  // namespace attention_graph
