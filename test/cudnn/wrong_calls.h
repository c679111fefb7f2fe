// wrong_calls.h: calls of cuDNN's graph API with one mistake each, and what the library answers. The real one is asked (plans.cpp), and so
// is the stand-in (test/emu/test_cudnn.cpp), which must refuse them all: those that the library refuses with its status.
#pragma once
#include <functional>
#include "../../llmc/cuda/attention_graph.h"

namespace wrong_calls {
using namespace attention_graph;
using Body = std::function<void(Builder&, Operations&)>;
struct WrongCall { const char *name, *answer; Body body; };
inline constexpr const char *TAKEN = "taken", *CRASHES = "crashes";  // 9.8 to 9.28 refused the others, with these statuses all but two

inline const Problem PROBLEM{2, 128, 3, 64};
constexpr auto TENSOR = CUDNN_BACKEND_TENSOR_DESCRIPTOR;
constexpr auto UID = CUDNN_ATTR_TENSOR_UNIQUE_ID;
constexpr auto I64 = CUDNN_TYPE_INT64;

// A tensor of the usual kind, but for what `change` leaves out or sets otherwise.
struct TensorParts {
    int64_t uid = 1, alignment = 16;
    std::vector<int64_t> dims{2, 3, 128, 64}, strides{24576, 8192, 64, 1};
    bool is_virtual = false, by_value = false;
    int left_out = -1;
    int type = CUDNN_DATA_FLOAT;  // an int, as other modes and types here: an enum may not hold what it has no name for
};
inline Descriptor tensor(Builder& b, TensorParts p) {
    Descriptor t = b.make(TENSOR);
    if (p.left_out != 0) b.set(t, UID, I64, p.uid);
    if (p.left_out != 1) b.set(t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, p.type);
    if (p.left_out != 2) b.set(t, CUDNN_ATTR_TENSOR_DIMENSIONS, I64, p.dims.data(), (int64_t)p.dims.size());
    if (p.left_out != 3) b.set(t, CUDNN_ATTR_TENSOR_STRIDES, I64, p.strides.data(), (int64_t)p.strides.size());
    if (p.left_out != 4) b.set(t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, I64, p.alignment);
    if (p.is_virtual) b.set(t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, true);
    if (p.by_value) b.set(t, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, true);
    b.finalize(t);
    return t;
}
inline Descriptor pointwise_mode(Builder& b, int mode, bool math = true) {
    Descriptor how = b.make(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    b.set(how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode);
    if (math) b.set(how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    b.finalize(how);
    return how;
}
// The device of a plan, as far as checks of arguments need it
inline Descriptor device(Builder& b, const std::string& json) {
    Descriptor d = b.make(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    b.set(d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, json.data(), (int64_t)json.size());
    b.finalize(d);
    return d;
}
inline Descriptor forward_graph(Operations& o) { forward(o, PROBLEM); return o.graph(nullptr); }
inline Descriptor engine(Builder& b, Descriptor graph, Descriptor on, int64_t number) {
    Descriptor e = b.make(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    if (graph) b.link(e, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph);
    b.set(e, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, I64, number);
    if (on) b.link(e, CUDNN_ATTR_ENGINE_DEVICEPROP, on);
    b.finalize(e);
    return e;
}
inline Descriptor knob(Builder& b, int type, int64_t value, int left_out = -1) {
    Descriptor k = b.make(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    if (left_out != 0) b.set(k, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, type);
    if (left_out != 1) b.set(k, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, I64, value);
    b.finalize(k);
    return k;
}
inline Descriptor heuristics(Builder& b, Descriptor graph, Descriptor on, int mode = CUDNN_HEUR_MODE_A) {
    Descriptor h = b.make(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    if (graph) b.link(h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    if (mode >= 0) b.set(h, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode);
    if (on) b.link(h, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, on);
    b.finalize(h);
    return h;
}
inline void get(Builder& b, Descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t wanted, int64_t* count, void* to) {
    if (b.refused.empty()) b.take(cudnnBackendGetAttribute(d, name, type, wanted, count, to), "cudnnBackendGetAttribute");
}
inline void pack(Builder& b, std::vector<int64_t> uids, std::vector<void*> pointers, int workspaces = 1) {
    Descriptor v = b.make(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    void* both[2] = {b.make(TENSOR), nullptr};
    if (!uids.empty()) b.set(v, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, I64, uids.data(), (int64_t)uids.size());
    if (!pointers.empty()) b.set(v, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, pointers.data(), (int64_t)pointers.size());
    b.set(v, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, both, workspaces);
    b.finalize(v);
}

// json: a GPU's properties
inline std::vector<WrongCall> all(const std::string& json) {
    int64_t two[2] = {1, 2};
    static char place[64];
    std::vector<WrongCall> calls;
    const auto add = [&](const char* name, const char* refusal, Body body) { calls.push_back({name, refusal, body}); };
    const auto wrong_tensor = [&](const char* name, const char* refusal, TensorParts parts) { add(name, refusal, [=](Builder& b, Operations&) { tensor(b, parts); }); };
    // 1. attributes: name, type, number of elements, order
    add("a descriptor of no type", "CreateDescriptor: INTERNAL_ERROR_HOST_ALLOCATION_FAILED", [](Builder& b, Operations&) { b.make((cudnnBackendDescriptorType_t)63); });
    add("nowhere to put a descriptor", CRASHES, [](Builder& b, Operations&) { b.take(cudnnBackendCreateDescriptor(TENSOR, nullptr), "cudnnBackendCreateDescriptor"); });
    add("a number as INT32", "SetAttribute: BAD_PARAM_ATTRIBUTE_TYPE", [](Builder& b, Operations&) { b.set(b.make(TENSOR), UID, CUDNN_TYPE_INT32, 1); });
    add("two numbers", "SetAttribute: BAD_PARAM", [=](Builder& b, Operations&) { b.set(b.make(TENSOR), UID, I64, two, 2); });
    add("no elements", "SetAttribute: BAD_PARAM", [=](Builder& b, Operations&) { b.set(b.make(TENSOR), UID, I64, two, 0); });
    add("-1 elements", "SetAttribute: BAD_PARAM", [=](Builder& b, Operations&) { b.set(b.make(TENSOR), UID, I64, two, -1); });
    add("elements at null", "SetAttribute: BAD_PARAM", [](Builder& b, Operations&) { b.set(b.make(TENSOR), UID, I64, (int64_t*)nullptr, 1); });
    add("an attribute of another descriptor", "SetAttribute: BAD_PARAM", [](Builder& b, Operations&) { b.set(b.make(TENSOR), CUDNN_ATTR_POINTWISE_AXIS, I64, (int64_t)1); });
    add("an attribute of no descriptor", "SetAttribute: BAD_PARAM", [](Builder& b, Operations&) { b.set(b.make(TENSOR), (cudnnBackendAttributeName_t)4095, I64, (int64_t)1); });
    add("an attribute of a null descriptor", "SetAttribute: BAD_PARAM_NULL_POINTER", [](Builder& b, Operations&) { b.set(nullptr, UID, I64, (int64_t)1); });
    add("set after finalize", "SetAttribute: BAD_PARAM", [](Builder& b, Operations& o) { b.set(o.rows(LSE), UID, I64, (int64_t)7); });
    add("finalized twice", "Finalize: BAD_PARAM", [](Builder& b, Operations& o) { b.finalize(o.rows(LSE)); });
    add("finalize of null", "Finalize: BAD_PARAM_NULL_POINTER", [](Builder& b, Operations&) { b.finalize(nullptr); });
    add("destroy of null", "DestroyDescriptor: BAD_PARAM_NULL_POINTER", [](Builder& b, Operations&) { b.take(cudnnBackendDestroyDescriptor(nullptr), "cudnnBackendDestroyDescriptor"); });
    // 2. tensors
    static const char* const PARTS[] = {"a tensor without a number", "a tensor without a type", "a tensor without dimensions", "a tensor without strides", "a tensor without an alignment"};
    for (int i = 0; i < 5; i++) wrong_tensor(PARTS[i], i < 2 ? TAKEN : "Finalize: BAD_PARAM", {.left_out = i});
    wrong_tensor("nine dimensions", "Finalize: BAD_PARAM", {.dims = std::vector<int64_t>(9, 1), .strides = std::vector<int64_t>(9, 1)});
    wrong_tensor("fewer strides than dimensions", "Finalize: BAD_PARAM", {.strides = {8192, 64, 1}});
    wrong_tensor("a dimension of 0", TAKEN, {.dims = {2, 0, 128, 64}});
    wrong_tensor("a dimension of -1", "Finalize: BAD_PARAM", {.dims = {2, -1, 128, 64}});
    wrong_tensor("a stride of 0", TAKEN, {.strides = {24576, 8192, 0, 1}});
    wrong_tensor("a stride of -1", "Finalize: BAD_PARAM", {.strides = {24576, 8192, -64, 1}});
    wrong_tensor("an alignment of 0", "Finalize: BAD_PARAM", {.alignment = 0});
    wrong_tensor("an alignment of 3", "Finalize: BAD_PARAM", {.alignment = 3});
    wrong_tensor("an alignment of -16", "Finalize: BAD_PARAM", {.alignment = -16});
    wrong_tensor("by value, and virtual", TAKEN, {.dims = {1, 1, 1, 1}, .strides = {1, 1, 1, 1}, .is_virtual = true, .by_value = true});
    wrong_tensor("many numbers by value", "Finalize: BAD_PARAM", {.by_value = true});
    wrong_tensor("a type that there is not", CRASHES, {.type = 999});
    // 3. operations
    add("a tensor that is not finalized", TAKEN, [](Builder& b, Operations&) { b.link(b.make(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR), CUDNN_ATTR_OPERATION_RESHAPE_XDESC, b.make(TENSOR)); });
    add("a tensor that is an operation's mode", CRASHES, [](Builder& b, Operations&) { b.link(b.make(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR), CUDNN_ATTR_OPERATION_RESHAPE_XDESC, pointwise_mode(b, CUDNN_POINTWISE_EXP)); });
    add("a tensor that is null", TAKEN, [](Builder& b, Operations&) { b.link(b.make(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR), CUDNN_ATTR_OPERATION_RESHAPE_XDESC, nullptr); });
    add("a pointwise mode that there is not", TAKEN, [](Builder& b, Operations&) { pointwise_mode(b, 9999); });
    add("a pointwise mode without its arithmetic", TAKEN, [](Builder& b, Operations&) { pointwise_mode(b, CUDNN_POINTWISE_ADD, false); });
    add("a sum of one", "Finalize: BAD_PARAM", [](Builder&, Operations& o) { o.pointwise(o.rows(DELTA), CUDNN_POINTWISE_ADD, o.rows(LSE)); });
    add("an exponential of two", TAKEN, [](Builder&, Operations& o) { o.pointwise(o.rows(DELTA), CUDNN_POINTWISE_EXP, o.rows(LSE), o.rows(98)); });
    add("a choice without a condition", "Finalize: BAD_PARAM", [](Builder&, Operations& o) { o.pointwise(o.rows(DELTA), CUDNN_POINTWISE_BINARY_SELECT, o.rows(LSE), o.rows(98)); });
    add("a pointwise operation on other shapes", TAKEN, [](Builder&, Operations& o) { o.pointwise(o.rows(DELTA), CUDNN_POINTWISE_ADD, o.rows(LSE), o.heads(Q, 576)); });
    add("an index along the fifth of four", "Finalize: BAD_PARAM", [](Builder&, Operations& o) { o.pointwise(o.scores(CUDNN_DATA_INT32), CUDNN_POINTWISE_GEN_INDEX, o.scores(), nullptr, nullptr, CUDNN_DATA_INT32, 4); });
    add("an index along no axis", "Finalize: BAD_PARAM", [](Builder&, Operations& o) { o.pointwise(o.scores(CUDNN_DATA_INT32), CUDNN_POINTWISE_GEN_INDEX, o.scores(), nullptr, nullptr, CUDNN_DATA_INT32); });
    add("a product of shapes that do not fit", "Finalize: BAD_PARAM", [](Builder&, Operations& o) { o.multiply(o.scores(), o.heads(Q, 576), o.heads(K, 576)); });
    add("a product into a shape that does not fit", "Finalize: BAD_PARAM", [](Builder&, Operations& o) { o.multiply(o.rows(LSE), o.heads(Q, 576), o.heads_transposed(K, 576)); });
    add("keys of 2 heads for queries of 3", "Finalize: BAD_PARAM", [](Builder& b, Operations& o) {
        Operations keys(b, {.B = 2, .T = 128, .NH = 3, .HS = 64, .NKV = 2});
        o.multiply(o.scores(), o.heads(Q, 576), keys.heads_transposed(K, 448));
    });
    add("a sum of 3 heads into 2", "Finalize: BAD_PARAM", [](Builder& b, Operations& o) {
        Operations keys(b, {.B = 2, .T = 128, .NH = 3, .HS = 64, .NKV = 2});
        o.reduce(keys.heads(DK, 448), CUDNN_REDUCE_TENSOR_ADD, o.heads(Q, 576));
    });
    add("a product without b", "Finalize: NOT_SUPPORTED", [](Builder& b, Operations& o) {
        Descriptor how = b.make(CUDNN_BACKEND_MATMUL_DESCRIPTOR), op = b.make(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
        b.set(how, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT), b.finalize(how);
        b.link(op, CUDNN_ATTR_OPERATION_MATMUL_DESC, how), b.link(op, CUDNN_ATTR_OPERATION_MATMUL_ADESC, o.heads(Q, 576)), b.link(op, CUDNN_ATTR_OPERATION_MATMUL_CDESC, o.scores());
        b.finalize(op);
    });
    add("a product without its arithmetic", TAKEN, [](Builder& b, Operations&) { b.finalize(b.make(CUDNN_BACKEND_MATMUL_DESCRIPTOR)); });
    add("a reduction to a longer row", "Finalize: BAD_PARAM", [](Builder&, Operations& o) { o.reduce(o.heads(Q, 576), CUDNN_REDUCE_TENSOR_ADD, o.rows(LSE)); });
    add("a reduction without an operator", TAKEN, [](Builder& b, Operations&) { b.finalize(b.make(CUDNN_BACKEND_REDUCTION_DESCRIPTOR)); });
    add("a transposition into too few elements", "Finalize: BAD_PARAM", [](Builder&, Operations& o) { o.transpose(o.rows(98), o.scores(CUDNN_DATA_BFLOAT16)); });
    // 4. graphs
    add("a graph without operations", "Finalize: BAD_PARAM", [](Builder& b, Operations&) { b.finalize(b.make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)); });
    add("a graph of no operations", "Finalize: BAD_PARAM", [](Builder&, Operations& o) { o.graph(nullptr); });
    add("a graph of tensors", CRASHES, [](Builder& b, Operations& o) { b.link(b.make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR), CUDNN_ATTR_OPERATIONGRAPH_OPS, o.rows(LSE)); });
    add("one number for two tensors", TAKEN, [](Builder&, Operations& o) { o.multiply(o.scores(), o.heads(Q, 576), o.heads_transposed(Q, 576)), o.graph(nullptr); });
    add("a virtual tensor that nobody makes", TAKEN, [](Builder&, Operations& o) { o.pointwise(o.rows(LSE), CUDNN_POINTWISE_LOG, o.rows(o.new_virtual())), o.graph(nullptr); });
    add("a virtual tensor that nobody takes", TAKEN, [](Builder&, Operations& o) { o.pointwise(o.rows(o.new_virtual()), CUDNN_POINTWISE_LOG, o.rows(LSE)), o.graph(nullptr); });
    add("a result of two operations", "Finalize: BAD_PARAM", [](Builder&, Operations& o) { for (int i = 0; i < 2; i++) o.pointwise(o.rows(DELTA), CUDNN_POINTWISE_LOG, o.rows(LSE)); o.graph(nullptr); });
    add("a circle", "Finalize: BAD_PARAM", [](Builder&, Operations& o) { Descriptor x = o.rows(98), y = o.rows(99); o.pointwise(x, CUDNN_POINTWISE_LOG, y), o.pointwise(y, CUDNN_POINTWISE_EXP, x), o.graph(nullptr); });
    // 5. heuristics, engines and knobs
    add("a device of no JSON", "Finalize: BAD_PARAM", [](Builder& b, Operations&) { device(b, "{\"deviceVer\":"); });
    add("a device of nothing", "Finalize: NOT_INITIALIZED", [](Builder& b, Operations&) { b.finalize(b.make(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR)); });
    add("heuristics without a graph", "Finalize: BAD_PARAM", [=](Builder& b, Operations&) { heuristics(b, nullptr, device(b, json)); });
    add("heuristics without a mode", TAKEN, [=](Builder& b, Operations& o) { heuristics(b, forward_graph(o), device(b, json), -1); });
    add("heuristics of a mode that there is not", TAKEN, [=](Builder& b, Operations& o) { heuristics(b, forward_graph(o), device(b, json), 99); });
    add("heuristics for no device", TAKEN, [](Builder& b, Operations& o) { heuristics(b, forward_graph(o), nullptr); });
    add("results before finalize", "GetAttribute: NOT_INITIALIZED", [=](Builder& b, Operations&) {
        Descriptor way = b.make(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
        int64_t n = 0;
        get(b, b.make(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &way);
    });
    add("results as numbers", "GetAttribute: BAD_PARAM_ATTRIBUTE_TYPE", [=](Builder& b, Operations& o) {
        int64_t n = 0, to = 0;
        get(b, heuristics(b, forward_graph(o), device(b, json)), CUDNN_ATTR_ENGINEHEUR_RESULTS, I64, 1, &n, &to);
    });
    add("results in descriptors of another type", TAKEN, [=](Builder& b, Operations& o) {
        Descriptor way = b.make(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
        int64_t n = 0;
        get(b, heuristics(b, forward_graph(o), device(b, json)), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &way);
    });
    add("-1 results", "GetAttribute: BAD_PARAM", [=](Builder& b, Operations& o) {
        Descriptor way = b.make(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
        int64_t n = 0;
        get(b, heuristics(b, forward_graph(o), device(b, json)), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, -1, &n, &way);
    });
    add("an engine without a graph", "Finalize: BAD_PARAM_NULL_POINTER", [=](Builder& b, Operations&) { engine(b, nullptr, device(b, json), 0); });
    add("an engine of number -1", "Finalize: NOT_SUPPORTED", [=](Builder& b, Operations& o) { engine(b, forward_graph(o), device(b, json), -1); });
    add("an engine of number 9999", "Finalize: NOT_SUPPORTED", [=](Builder& b, Operations& o) { engine(b, forward_graph(o), device(b, json), 9999); });
    add("an engine for no device", TAKEN, [=](Builder& b, Operations& o) { engine(b, forward_graph(o), nullptr, 0); });
    add("a knob without a type", TAKEN, [](Builder& b, Operations&) { knob(b, CUDNN_KNOB_TYPE_STAGES, 2, 0); });
    add("a knob without a value", TAKEN, [](Builder& b, Operations&) { knob(b, CUDNN_KNOB_TYPE_STAGES, 2, 1); });
    add("a knob of a type that there is not", TAKEN, [](Builder& b, Operations&) { knob(b, 9999, 2); });
    add("a knob of value -1", TAKEN, [](Builder& b, Operations&) { knob(b, CUDNN_KNOB_TYPE_STAGES, -1); });
    add("a configuration of nothing", CRASHES, [](Builder& b, Operations&) { b.finalize(b.make(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)); });
    const auto configuration = [=](Builder& b, Operations& o, std::vector<Knob> knobs, int64_t number = 6) {
        backward(o, PROBLEM);
        return configure(b, {number, knobs}, o.graph(nullptr), device(b, json));
    };
    add("a configuration with a knob that the engine has not", "Finalize: NOT_SUPPORTED", [=](Builder& b, Operations& o) { configuration(b, o, {{CUDNN_KNOB_TYPE_SWIZZLE, 1}}); });
    add("a configuration with a value that the knob has not", "Finalize: NOT_SUPPORTED", [=](Builder& b, Operations& o) { configuration(b, o, {{CUDNN_KNOB_TYPE_STAGES, 99}}); });
    add("a configuration with a knob twice", "SetAttribute: BAD_PARAM", [=](Builder& b, Operations& o) { configuration(b, o, {{CUDNN_KNOB_TYPE_STAGES, 2}, {CUDNN_KNOB_TYPE_STAGES, 2}}); });
    add("a configuration of an engine for another GPU", "Finalize: NOT_SUPPORTED", [=](Builder& b, Operations& o) { configuration(b, o, engine_for({2, 128, 3, 64, true, SM100}, cudnnGetVersion()).knobs, 5); });
    // 6. plans
    add("a plan of nothing", "Finalize: BAD_PARAM_NOT_FINALIZED", [](Builder& b, Operations&) { b.finalize(b.make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)); });
    add("a plan without a configuration", "Finalize: BAD_PARAM_NOT_FINALIZED", [=](Builder& b, Operations&) {
        Descriptor plan = b.make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
        b.link(plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, device(b, json)), b.finalize(plan);
    });
    add("a plan of a graph", CRASHES, [=](Builder& b, Operations& o) { b.link(b.make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR), CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, forward_graph(o)); });
    add("a plan whose workspace is set", "SetAttribute: NOT_SUPPORTED", [](Builder& b, Operations&) { b.set(b.make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, I64, (int64_t)1); });
    add("a plan for no device", TAKEN, [=](Builder& b, Operations& o) {
        Descriptor plan = b.make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR), way = b.make(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
        int64_t n = 0;
        get(b, heuristics(b, forward_graph(o), device(b, json)), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &way);
        b.link(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, way), b.finalize(plan);
    });
    const auto ask = [=](Builder& b, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t wanted, bool count, bool to) {
        const Plan plan = make_plan(b, PROBLEM, nullptr, device(b, json));
        int64_t n = 0, x[64] = {};
        get(b, plan.plan, name, type, wanted, count ? &n : nullptr, to ? x : nullptr);
    };
    add("a workspace's size as INT32", "GetAttribute: BAD_PARAM_ATTRIBUTE_TYPE", [=](Builder& b, Operations&) { ask(b, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT32, 1, true, true); });
    add("a workspace's size into no elements", "GetAttribute: BAD_PARAM", [=](Builder& b, Operations&) { ask(b, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, I64, 0, true, true); });
    add("a workspace's size into -1 elements", "GetAttribute: BAD_PARAM", [=](Builder& b, Operations&) { ask(b, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, I64, -1, true, true); });
    add("a workspace's size into two elements", "GetAttribute: BAD_PARAM", [=](Builder& b, Operations&) { ask(b, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, I64, 2, true, true); });
    add("a workspace's size without a count", TAKEN, [=](Builder& b, Operations&) { ask(b, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, I64, 1, false, true); });
    add("a plan's attribute of a tensor", "GetAttribute: BAD_PARAM", [=](Builder& b, Operations&) { ask(b, UID, I64, 1, true, true); });
    // 7. variant packs, streams, executions
    add("a variant pack of nothing", TAKEN, [](Builder& b, Operations&) { b.finalize(b.make(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)); });
    add("a variant pack without numbers", "Finalize: BAD_PARAM", [](Builder& b, Operations&) { pack(b, {}, {place}); });
    add("a variant pack without pointers", "Finalize: BAD_PARAM", [](Builder& b, Operations&) { pack(b, {1}, {}); });
    add("a variant pack of two numbers and a pointer", "Finalize: BAD_PARAM", [](Builder& b, Operations&) { pack(b, {1, 2}, {place}); });
    add("a variant pack with a number twice", TAKEN, [](Builder& b, Operations&) { pack(b, {1, 1}, {place, place + 16}); });
    add("a variant pack with two workspaces", "SetAttribute: BAD_PARAM", [](Builder& b, Operations&) { pack(b, {1}, {place}, 2); });
    add("an execution by no handle", "Execute: BAD_PARAM", [=](Builder& b, Operations&) {
        const Plan plan = make_plan(b, PROBLEM, nullptr, device(b, json));
        if (b.refused.empty()) b.take(cudnnBackendExecute(nullptr, plan.plan, plan.plan), "cudnnBackendExecute");
    });
    add("a stream for no handle", "cudnnSetStream: BAD_PARAM", [](Builder& b, Operations&) { b.take(cudnnSetStream(nullptr, nullptr), "cudnnSetStream"); });
    add("nowhere to put a handle", "cudnnCreate: BAD_PARAM", [](Builder& b, Operations&) { b.take(cudnnCreate(nullptr), "cudnnCreate"); });
    return calls;
}

// "cudnnBackendFinalize: CUDNN_STATUS_BAD_PARAM: why" as "Finalize: BAD_PARAM"
inline std::string ask(const WrongCall& call) {
    Builder b;
    Operations ops(b, PROBLEM);
    call.body(b, ops);
    std::string answer = b.refused.empty() ? TAKEN : b.refused;
    const size_t status = answer.find("CUDNN_STATUS_");
    if (status == std::string::npos) return answer;
    answer = answer.substr(0, answer.find_first_of(": ", status)).erase(status, 13);
    return answer.starts_with("cudnnBackend") ? answer.substr(12) : answer;
}
}  // namespace wrong_calls
