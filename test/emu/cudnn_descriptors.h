// cudnn_descriptors.h: descriptors of cuDNN's graph API: which attributes each has, of what type and how many, and what finalize looks at.
#pragma once
#include "cudnn_operations.h"

namespace emu::cudnn {
// ---- descriptors ----------------------------------------------------------------------------------------------------------
struct Descriptor;
using DescriptorPtr = std::shared_ptr<Descriptor>;
struct Attribute { cudnnBackendAttributeType_t type; int64_t count; std::vector<char> bytes; std::vector<DescriptorPtr> links; };
struct Descriptor {
    cudnnBackendDescriptorType_t type;
    bool finalized = false;
    std::map<int, Attribute> attributes;
    Tensor tensor;                       // what finalize made of the attributes
    Operation operation;
    std::shared_ptr<const Graph> graph;  // of a graph and of all that comes from it
    int config_index = 0;

    template <class X> std::vector<X> all(int name) const {
        auto a = attributes.find(name);
        if (a == attributes.end()) return {};
        std::vector<X> x((size_t)a->second.count);
        memcpy((void*)x.data(), a->second.bytes.data(), a->second.bytes.size());
        return x;
    }
    template <class X> X get(int name, X otherwise = {}) const { return attributes.count(name) ? *(const X*)attributes.at(name).bytes.data() : otherwise; }
    const Descriptor& link(int name) const { return *attributes.at(name).links[0]; }
};
// Those that were made and not destroyed; never destroyed itself, for descriptors that live until the program ends.
inline std::map<void*, DescriptorPtr>& alive() { static auto& m = *new std::map<void*, DescriptorPtr>; return m; }
inline std::set<cudnnHandle_t>& handles() { static auto& s = *new std::set<cudnnHandle_t>; return s; }  // likewise
inline DescriptorPtr find(cudnnBackendDescriptor_t d) { auto found = alive().find(d); return found == alive().end() ? nullptr : found->second; }

constexpr int NOTHING = -1, AN_OPERATION = -2;  // beside the types of descriptors
struct Rule {
    cudnnBackendDescriptorType_t owner;
    cudnnBackendAttributeName_t name;
    const char* text;
    cudnnBackendAttributeType_t type;
    int64_t most;   // elements; of more than one, fewer may be given
    bool required;
    int links = NOTHING;  // the type of descriptor that it is set to
};
#define R(owner, name, type, most, required) {CUDNN_BACKEND_##owner##_DESCRIPTOR, CUDNN_ATTR_##name, "CUDNN_ATTR_" #name, CUDNN_TYPE_##type, most, required}
#define L(owner, name, to, required) {CUDNN_BACKEND_##owner##_DESCRIPTOR, CUDNN_ATTR_##name, "CUDNN_ATTR_" #name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, required, CUDNN_BACKEND_##to##_DESCRIPTOR}
constexpr Rule RULES[] = {
    R(TENSOR, TENSOR_UNIQUE_ID, INT64, 1, true), R(TENSOR, TENSOR_DATA_TYPE, DATA_TYPE, 1, true), R(TENSOR, TENSOR_DIMENSIONS, INT64, 1000, true),
    R(TENSOR, TENSOR_STRIDES, INT64, 1000, true), R(TENSOR, TENSOR_BYTE_ALIGNMENT, INT64, 1, true), R(TENSOR, TENSOR_IS_VIRTUAL, BOOLEAN, 1, false),
    R(TENSOR, TENSOR_IS_BY_VALUE, BOOLEAN, 1, false),
    R(MATMUL, MATMUL_COMP_TYPE, DATA_TYPE, 1, true), L(OPERATION_MATMUL, OPERATION_MATMUL_DESC, MATMUL, true),
    L(OPERATION_MATMUL, OPERATION_MATMUL_ADESC, TENSOR, true), L(OPERATION_MATMUL, OPERATION_MATMUL_BDESC, TENSOR, false),
    L(OPERATION_MATMUL, OPERATION_MATMUL_CDESC, TENSOR, true),
    R(POINTWISE, POINTWISE_MODE, POINTWISE_MODE, 1, true), R(POINTWISE, POINTWISE_MATH_PREC, DATA_TYPE, 1, true), R(POINTWISE, POINTWISE_AXIS, INT64, 1, false),
    L(OPERATION_POINTWISE, OPERATION_POINTWISE_PW_DESCRIPTOR, POINTWISE, true), L(OPERATION_POINTWISE, OPERATION_POINTWISE_XDESC, TENSOR, true),
    L(OPERATION_POINTWISE, OPERATION_POINTWISE_BDESC, TENSOR, false), L(OPERATION_POINTWISE, OPERATION_POINTWISE_TDESC, TENSOR, false),
    L(OPERATION_POINTWISE, OPERATION_POINTWISE_YDESC, TENSOR, true),
    R(REDUCTION, REDUCTION_OPERATOR, REDUCTION_OPERATOR_TYPE, 1, true), R(REDUCTION, REDUCTION_COMP_TYPE, DATA_TYPE, 1, true),
    L(OPERATION_REDUCTION, OPERATION_REDUCTION_DESC, REDUCTION, true), L(OPERATION_REDUCTION, OPERATION_REDUCTION_XDESC, TENSOR, true),
    L(OPERATION_REDUCTION, OPERATION_REDUCTION_YDESC, TENSOR, true),
    L(OPERATION_RESHAPE, OPERATION_RESHAPE_XDESC, TENSOR, true), L(OPERATION_RESHAPE, OPERATION_RESHAPE_YDESC, TENSOR, true),
    {CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, CUDNN_ATTR_OPERATIONGRAPH_OPS, "CUDNN_ATTR_OPERATIONGRAPH_OPS", CUDNN_TYPE_BACKEND_DESCRIPTOR, 1000, true, AN_OPERATION},
    R(OPERATIONGRAPH, OPERATIONGRAPH_HANDLE, HANDLE, 1, false), L(ENGINEHEUR, ENGINEHEUR_OPERATION_GRAPH, OPERATIONGRAPH, true),
    R(ENGINEHEUR, ENGINEHEUR_MODE, HEUR_MODE, 1, true), L(ENGINEHEUR, ENGINEHEUR_DEVICEPROP, DEVICEPROP, false),
    L(ENGINE, ENGINE_OPERATION_GRAPH, OPERATIONGRAPH, false), R(ENGINE, ENGINE_GLOBAL_INDEX, INT64, 1, true), L(ENGINE, ENGINE_DEVICEPROP, DEVICEPROP, false),
    R(KNOB_CHOICE, KNOB_CHOICE_KNOB_TYPE, KNOB_TYPE, 1, true), R(KNOB_CHOICE, KNOB_CHOICE_KNOB_VALUE, INT64, 1, true),
    L(ENGINECFG, ENGINECFG_ENGINE, ENGINE, true),
    {CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, "CUDNN_ATTR_ENGINECFG_KNOB_CHOICES", CUDNN_TYPE_BACKEND_DESCRIPTOR, CUDNN_KNOB_TYPE_COUNTS, false,
     CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR},
    R(EXECUTION_PLAN, EXECUTION_PLAN_HANDLE, HANDLE, 1, false), L(EXECUTION_PLAN, EXECUTION_PLAN_ENGINE_CONFIG, ENGINECFG, false),
    L(EXECUTION_PLAN, EXECUTION_PLAN_DEVICEPROP, DEVICEPROP, false),
    R(VARIANT_PACK, VARIANT_PACK_UNIQUE_IDS, INT64, 1000, true), R(VARIANT_PACK, VARIANT_PACK_DATA_POINTERS, VOID_PTR, 1000, true),
    R(VARIANT_PACK, VARIANT_PACK_WORKSPACE, VOID_PTR, 1, false),
    R(DEVICEPROP, DEVICEPROP_DEVICE_ID, INT32, 1, false), R(DEVICEPROP, DEVICEPROP_HANDLE, HANDLE, 1, false),
    R(DEVICEPROP, DEVICEPROP_JSON_REPRESENTATION, CHAR, 1 << 20, false)};
#undef R
#undef L
inline size_t size_of(cudnnBackendAttributeType_t type) {
    switch (type) {
        case CUDNN_TYPE_HANDLE: case CUDNN_TYPE_INT64: case CUDNN_TYPE_VOID_PTR: case CUDNN_TYPE_BACKEND_DESCRIPTOR: return 8;
        case CUDNN_TYPE_BOOLEAN: case CUDNN_TYPE_CHAR: return 1;
        default: return 4;
    }
}

// ---- what finalize looks at --------------------------------------------------------------------------------------------------
inline cudnnStatus_t finalize_tensor(Descriptor& d) {
    const auto dims = d.all<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS), strides = d.all<int64_t>(CUDNN_ATTR_TENSOR_STRIDES);
    if (dims.size() != strides.size()) return refuse(CUDNN_STATUS_BAD_PARAM, "as many strides as dimensions are needed");
    if (dims.size() > 8) return refuse(CUDNN_STATUS_BAD_PARAM, "more than eight dimensions");
    if (dims.size() != 4) return refuse(CUDNN_STATUS_NOT_SUPPORTED, "this stand-in knows tensors of four dimensions");
    Tensor& t = d.tensor;
    std::copy_n(dims.begin(), 4, t.dims.begin()), std::copy_n(strides.begin(), 4, t.strides.begin());
    t.uid = d.get<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID), t.alignment = d.get<int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
    const int type = d.get<int>(CUDNN_ATTR_TENSOR_DATA_TYPE);
    if (type < 0 || type > CUDNN_DATA_BOOLEAN) return refuse(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "a type that there is not, or not here");
    t.type = (cudnnDataType_t)type;
    t.is_virtual = d.get<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL), t.by_value = d.get<bool>(CUDNN_ATTR_TENSOR_IS_BY_VALUE);
    for (size_t i = 0; i < 4; i++) if (t.dims[i] < 1 || t.strides[i] < 1) return refuse(CUDNN_STATUS_BAD_PARAM, t.text() + ": a dimension or a stride below 1");
    if (t.alignment < 1 || t.alignment & (t.alignment - 1)) return refuse(CUDNN_STATUS_BAD_PARAM, t.text() + ": the alignment is not a power of two");
    const bool number = t.type == CUDNN_DATA_FLOAT || t.type == CUDNN_DATA_BFLOAT16;
    const bool one = t.by_value && !t.is_virtual && t.dims == Four{1, 1, 1, 1} && (t.type == CUDNN_DATA_FLOAT || t.type == CUDNN_DATA_INT32);
    if (!number && !one && !(t.is_virtual && (t.type == CUDNN_DATA_INT32 || t.type == CUDNN_DATA_BOOLEAN)))
        return refuse(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, t.text() + ": this stand-in has fp32 and bf16, and integers between operations");
    if (t.by_value && !one) return refuse(CUDNN_STATUS_BAD_PARAM, t.text() + ": by value is one fp32 number or one integer");
    return CUDNN_STATUS_SUCCESS;
}

inline cudnnStatus_t finalize_mode(const Descriptor& d) {
    for (int mode : {CUDNN_POINTWISE_ADD, CUDNN_POINTWISE_DIV, CUDNN_POINTWISE_MUL, CUDNN_POINTWISE_SUB, CUDNN_POINTWISE_EXP, CUDNN_POINTWISE_LOG, CUDNN_POINTWISE_IDENTITY,
                     CUDNN_POINTWISE_CMP_GT, CUDNN_POINTWISE_CMP_GE, CUDNN_POINTWISE_GEN_INDEX, CUDNN_POINTWISE_BINARY_SELECT}) if (d.get<int>(CUDNN_ATTR_POINTWISE_MODE) == mode) return CUDNN_STATUS_SUCCESS;
    return refuse(CUDNN_STATUS_NOT_SUPPORTED, "a pointwise mode that this stand-in does not know");
}

// Does x go along with y, repeated where it has 1?
inline bool broadcasts(const Tensor& x, const Tensor& y, size_t dims = 4) {
    for (size_t i = 0; i < dims; i++) if (x.dims[i] != y.dims[i] && x.dims[i] != 1) return false;
    return true;
}
// Does each head of x go along with as many of y? Grouped queries: heads of keys and values, and sums over a group
inline bool grouped(const Tensor& x, const Tensor& y) { return x.dims[0] == y.dims[0] && y.dims[1] % x.dims[1] == 0; }
inline cudnnStatus_t finalize_operation(Descriptor& d) {
    Operation& o = d.operation;
    o = {.kind = d.type, .inputs = {}, .output = {}};
    const auto take = [&](int name) { if (d.attributes.count(name)) o.inputs.push_back(d.link(name).tensor); };
    const auto wrong = [&](const char* what, cudnnStatus_t status = CUDNN_STATUS_BAD_PARAM) {
        std::string s = std::string(what) + ":";
        for (const Tensor& t : o.inputs) s += " " + t.text();
        return refuse(status, s + " to " + o.output.text());
    };
    cudnnDataType_t needed = o.output.type, math = CUDNN_DATA_FLOAT;
    if (o.kind == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR) {
        take(CUDNN_ATTR_OPERATION_MATMUL_ADESC), take(CUDNN_ATTR_OPERATION_MATMUL_BDESC), o.output = d.link(CUDNN_ATTR_OPERATION_MATMUL_CDESC).tensor;
        math = d.link(CUDNN_ATTR_OPERATION_MATMUL_DESC).get<cudnnDataType_t>(CUDNN_ATTR_MATMUL_COMP_TYPE);
        if (o.inputs.size() != 2) return wrong("a product of one matrix", CUDNN_STATUS_NOT_SUPPORTED);
        const Tensor &a = o.inputs[0], &b = o.inputs[1], &c = o.output;
        if (a.dims[3] != b.dims[2] || a.dims[2] != c.dims[2] || b.dims[3] != c.dims[3] || !broadcasts(a, c, 2) || !(broadcasts(b, c, 2) || grouped(b, c))) return wrong("a product of shapes that do not fit");
    } else if (o.kind == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR) {
        const Descriptor& how = d.link(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
        o.mode = how.get<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE), o.axis = how.get<int64_t>(CUDNN_ATTR_POINTWISE_AXIS, -1);
        take(CUDNN_ATTR_OPERATION_POINTWISE_XDESC), take(CUDNN_ATTR_OPERATION_POINTWISE_BDESC), take(CUDNN_ATTR_OPERATION_POINTWISE_TDESC);
        o.output = d.link(CUDNN_ATTR_OPERATION_POINTWISE_YDESC).tensor;
        size_t operands = 0;
        switch (o.mode) {
            case CUDNN_POINTWISE_IDENTITY: case CUDNN_POINTWISE_EXP: case CUDNN_POINTWISE_LOG: case CUDNN_POINTWISE_GEN_INDEX: operands = 1; break;
            case CUDNN_POINTWISE_ADD: case CUDNN_POINTWISE_SUB: case CUDNN_POINTWISE_MUL: case CUDNN_POINTWISE_DIV: case CUDNN_POINTWISE_CMP_GT: case CUDNN_POINTWISE_CMP_GE: operands = 2; break;
            case CUDNN_POINTWISE_BINARY_SELECT: operands = 3; break;
        }
        if (o.inputs.size() != operands) return wrong("too few or too many operands of a pointwise operation");
        for (const Tensor& x : o.inputs) if (!broadcasts(x, o.output)) return wrong("a pointwise operation on shapes that do not fit");
        if (o.mode == CUDNN_POINTWISE_GEN_INDEX && (o.axis < 0 || o.axis > 3)) return wrong("an index along no axis");
        if (o.mode == CUDNN_POINTWISE_BINARY_SELECT && o.inputs[2].type != CUDNN_DATA_BOOLEAN) return wrong("a choice by what is not boolean");
        needed = o.mode == CUDNN_POINTWISE_CMP_GT || o.mode == CUDNN_POINTWISE_CMP_GE ? CUDNN_DATA_BOOLEAN : o.mode == CUDNN_POINTWISE_GEN_INDEX || o.inputs[0].type == CUDNN_DATA_INT32 ? CUDNN_DATA_INT32 : needed;
        if (operands == 2 && (o.inputs[0].type == CUDNN_DATA_INT32) != (o.inputs[1].type == CUDNN_DATA_INT32)) return wrong("an integer and a number that is none");
    } else if (o.kind == CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR) {
        const Descriptor& how = d.link(CUDNN_ATTR_OPERATION_REDUCTION_DESC);
        o.mode = how.get<cudnnReduceTensorOp_t>(CUDNN_ATTR_REDUCTION_OPERATOR), math = how.get<cudnnDataType_t>(CUDNN_ATTR_REDUCTION_COMP_TYPE);
        take(CUDNN_ATTR_OPERATION_REDUCTION_XDESC), o.output = d.link(CUDNN_ATTR_OPERATION_REDUCTION_YDESC).tensor;
        if (o.mode != CUDNN_REDUCE_TENSOR_ADD && o.mode != CUDNN_REDUCE_TENSOR_MAX) return wrong("a reduction that this stand-in does not know", CUDNN_STATUS_NOT_SUPPORTED);
        Tensor each = o.output;
        if (grouped(each, o.inputs[0])) each.dims[1] = o.inputs[0].dims[1];
        if (!broadcasts(each, o.inputs[0])) return wrong("a reduction to a shape that does not fit");
    } else {
        take(CUDNN_ATTR_OPERATION_RESHAPE_XDESC), o.output = d.link(CUDNN_ATTR_OPERATION_RESHAPE_YDESC).tensor;
        const auto exchanged = [](Four x) { std::swap(x[2], x[3]); return x; };
        const Tensor &x = o.inputs[0], &y = o.output;
        if (x.dims != exchanged(y.dims) || x.strides != exchanged(y.strides))
            return wrong("a reshape that does not exchange the last two dimensions and their strides", x.dims != exchanged(y.dims) ? CUDNN_STATUS_BAD_PARAM : CUDNN_STATUS_NOT_SUPPORTED);
    }
    if (math != CUDNN_DATA_FLOAT) return wrong("sums that are not fp32", CUDNN_STATUS_NOT_SUPPORTED);
    const bool number = o.output.type == CUDNN_DATA_FLOAT || o.output.type == CUDNN_DATA_BFLOAT16;
    if (needed == CUDNN_DATA_FLOAT ? !number : o.output.type != needed) return wrong("a result of a type that the operation does not have", CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE);
    return CUDNN_STATUS_SUCCESS;
}

inline int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
// As the fused kernels for attention have it: bf16 operands, heads of 8, 16 ... 256, rows that are read 16 bytes at a time.
// Workspaces are those of 9.19 on an H100.
inline void look_for_ways(Graph& g) {
    int64_t T = 0, HS = 0;
    int products = 0;
    for (const Operation& o : g.operations) if (o.kind == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR) {
        if (products++ == 0) T = o.inputs[0].dims[2], HS = o.inputs[0].dims[3];
        for (const Tensor& t : o.inputs) if (t.type != CUDNN_DATA_BFLOAT16) g.unsupported = t.text() + " is an operand of a product and not bf16";
    }
    if (products == 0) g.unsupported = "no product of matrices";
    else if (HS % 8 || HS > 256) g.unsupported = "the head size " + std::to_string(HS) + " is not a multiple of 8 up to 256";
    bool sums = false;  // of dq, in memory
    for (auto& [uid, t] : g.tensors) if (t.in_memory()) {
        if (t.dims[3] == 1 ? t.strides[2] != 1 : t.strides[3] != 1 && t.strides[2] != 1) g.unsupported = t.text() + ": no stride of 1 among the last";
        if (t.alignment < 16) g.unsupported = t.text() + ": its alignment is less than 16 bytes";
        sums |= g.produced.count(uid) && t.type == CUDNN_DATA_FLOAT && t.dims[3] == HS;
    }
    const Four& heads = g.operations[0].output.dims;
    g.kind = products < 3 ? Kind::FORWARD : sums ? Kind::DQ_ACCUM : Kind::SEPARATE_GEMM;
    for (const Operation& o : g.operations) if (products > 2 && o.kind == CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR && o.output.dims[1] < heads[1]) g.summed += heads[0] * heads[1] * T * HS * 2;
    g.workspace = 256 + g.summed + (g.kind == Kind::SEPARATE_GEMM ? heads[0] * heads[1] * up(T, 64) * up(T, 128) * 2 : 0);
    g.counters = up(heads[0] * heads[1] * (up(T, 64) / 64) * 8, 128);
}

inline cudnnStatus_t finalize_graph(Descriptor& d) {
    auto g = std::make_shared<Graph>();
    std::vector<Operation> left;
    std::set<int64_t> taken;
    if (d.attributes.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).links.empty()) return refuse(CUDNN_STATUS_BAD_PARAM, "a graph of no operations");
    // 1. a number is one tensor, and the result of one operation at most
    for (const DescriptorPtr& link : d.attributes.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).links) {
        const Operation& o = left.emplace_back(link->operation);
        std::vector<Tensor> tensors = o.inputs;
        tensors.push_back(o.output);
        for (const Tensor& t : tensors)
            if (const Tensor& known = g->tensors.emplace(t.uid, t).first->second; known != t) return refuse(CUDNN_STATUS_BAD_PARAM, t.text() + " is another " + known.text() + " elsewhere");
        for (const Tensor& t : o.inputs) taken.insert(t.uid);
        if (o.output.by_value) return refuse(CUDNN_STATUS_BAD_PARAM, o.output.text() + " is given by value, and a result");
        if (!g->produced.insert(o.output.uid).second) return refuse(CUDNN_STATUS_BAD_PARAM, o.output.text() + " is the result of two operations");
        const Tensor &first = left[0].output, &y = o.output, &x = o.inputs[0];
        const bool sums_group = o.kind == CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR && grouped(y, x), of_keys = o.kind == CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR && grouped(y, first);
        if (y.dims[0] != first.dims[0] || (y.dims[1] != first.dims[1] && !sums_group && !of_keys) || (!broadcasts(x, y, 2) && !sums_group))
            return refuse(CUDNN_STATUS_NOT_SUPPORTED, y.text() + ": this stand-in goes head by head");
    }
    for (auto& [uid, t] : g->tensors) if (t.is_virtual) {
        if (!g->produced.count(uid)) return refuse(CUDNN_STATUS_BAD_PARAM, t.text() + " is virtual, and no operation makes it");
        if (!taken.count(uid)) return refuse(CUDNN_STATUS_BAD_PARAM, t.text() + " is virtual, and no operation takes it");
    }
    // 2. an order
    std::set<int64_t> missing = g->produced;
    while (!left.empty()) {
        auto next = std::find_if(left.begin(), left.end(), [&](const Operation& o) {
            return std::none_of(o.inputs.begin(), o.inputs.end(), [&](const Tensor& t) { return missing.count(t.uid); });
        });
        if (next == left.end()) return refuse(CUDNN_STATUS_BAD_PARAM, left[0].output.text() + " depends on itself");
        missing.erase(next->output.uid);
        g->operations.push_back(*next), left.erase(next);
    }
    look_for_ways(*g);
    d.graph = g;
    return CUDNN_STATUS_SUCCESS;
}

// Something tells which GPU it is for.
inline bool has_device(const Descriptor& d, int handle, int properties) { return d.attributes.count(handle) || d.attributes.count(properties); }
inline cudnnStatus_t finalize_device(const Descriptor& d) {
    const std::vector<char> json = d.all<char>(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION);
    if (json.empty() && !has_device(d, CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_ATTR_DEVICEPROP_DEVICE_ID)) return refuse(CUDNN_STATUS_NOT_INITIALIZED, "the properties of no device");
    if (!json.empty() && (json.front() != '{' || json.back() != '}')) return refuse(CUDNN_STATUS_BAD_PARAM, "a device's properties are not JSON");
    return CUDNN_STATUS_SUCCESS;
}
inline cudnnStatus_t finalize_heuristics(Descriptor& d) {
    const Descriptor& graph = d.link(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    const int mode = d.get<int>(CUDNN_ATTR_ENGINEHEUR_MODE);
    if (mode < CUDNN_HEUR_MODE_INSTANT || mode > CUDNN_HEUR_MODE_A) return refuse(CUDNN_STATUS_BAD_PARAM, "heuristics of a mode that there is not");
    if (!has_device(d, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP) && !graph.attributes.count(CUDNN_ATTR_OPERATIONGRAPH_HANDLE))
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "heuristics for no device");
    d.graph = graph.graph;
    return CUDNN_STATUS_SUCCESS;
}
inline cudnnStatus_t finalize_engine(Descriptor& d) {
    if (!d.attributes.count(CUDNN_ATTR_ENGINE_OPERATION_GRAPH)) return refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "an engine without a graph");
    const Descriptor& graph = d.link(CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
    const int64_t number = d.get<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
    if (number < 0 || number > 17) return refuse(CUDNN_STATUS_NOT_SUPPORTED, "there is no engine " + std::to_string(number));
    if (!d.attributes.count(CUDNN_ATTR_ENGINE_DEVICEPROP) && !graph.attributes.count(CUDNN_ATTR_OPERATIONGRAPH_HANDLE)) return refuse(CUDNN_STATUS_NOT_SUPPORTED, "an engine for no device");
    d.graph = graph.graph;
    return CUDNN_STATUS_SUCCESS;
}
inline cudnnStatus_t finalize_knob(const Descriptor& d) {
    const int type = d.get<int>(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE);
    if (type < 0 || type >= CUDNN_KNOB_TYPE_COUNTS || d.get<int64_t>(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE) < 0) return refuse(CUDNN_STATUS_BAD_PARAM, "a knob or a value of it that there is not");
    return CUDNN_STATUS_SUCCESS;
}
// The two backwards that keep an order and have to be asked for by engine and knobs, as 9.18 to 9.28 build them
inline cudnnStatus_t finalize_config(Descriptor& d) {
    const Descriptor& engine = d.link(CUDNN_ATTR_ENGINECFG_ENGINE);
    const int64_t number = engine.get<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX), tiled = cudnn_version() >= 92300;
    std::map<int64_t, int64_t> knobs;
    if (d.attributes.count(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES)) for (const DescriptorPtr& k : d.attributes.at(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES).links)
        knobs[k->get<int>(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE)] = k->get<int64_t>(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE);
    const bool sm100 = number == 5 && (cudnn_sm() == 100 || cudnn_sm() == 103) && cudnn_version() >= 91800 && engine.graph->kind == Kind::SEPARATE_GEMM &&
                       knobs == (tiled ? std::map<int64_t, int64_t>{{14, 2}, {24, 2}, {27, 0}, {38, 0}, {40, 3}, {41, 2}} : std::map<int64_t, int64_t>{{14, 2}, {24, 31}});
    const bool semaphore = number == 6 && cudnn_sm() == 90 && cudnn_version() >= 92500 && engine.graph->kind == Kind::DQ_ACCUM &&
                         knobs == std::map<int64_t, int64_t>{{14, 4}, {24, 2}, {27, 0}, {38, 0}, {40, 2}, {41, 1}};
    if (!sm100 && !semaphore) return refuse(CUDNN_STATUS_NOT_SUPPORTED, "engine " + std::to_string(number) + " with these knobs is not for this graph, GPU and version");
    if (!engine.graph->unsupported.empty()) return refuse(CUDNN_STATUS_NOT_SUPPORTED, engine.graph->unsupported);
    auto g = std::make_shared<Graph>(*engine.graph);
    g->deterministic = true, g->workspace = sm100 ? 2 * g->summed : 256 + g->summed + g->counters;
    d.graph = g, d.config_index = 1 << 20;
    return CUDNN_STATUS_SUCCESS;
}

inline cudnnStatus_t finalize_plan(Descriptor& d) {
    if (!d.attributes.count(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)) return refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "a plan without an engine configuration");
    const Descriptor& config = d.link(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    if (!has_device(d, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP)) return refuse(CUDNN_STATUS_BAD_PARAM, "a plan for no device: neither a handle nor properties");
    // loading a kernel takes memory of the device, as making a handle does
    if (unsafe("cudnnBackendFinalize") != cudaSuccess) return refuse(CUDNN_STATUS_EXECUTION_FAILED_CUDART, "a plan is built while a stream is captured");
    if (config.config_index < cudnn_unbuildable()) return refuse(CUDNN_STATUS_NOT_SUPPORTED, "this engine configuration cannot be built, on request");
    d.graph = config.graph, cudnn_plans()++;
    const char* bytes = (const char*)&d.graph->workspace;
    d.attributes[CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE] = {CUDNN_TYPE_INT64, 1, {bytes, bytes + 8}, {}};
    return CUDNN_STATUS_SUCCESS;
}
inline cudnnStatus_t finalize_pack(Descriptor& d) {
    const auto uids = d.all<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    if (uids.size() != d.all<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS).size()) return refuse(CUDNN_STATUS_BAD_PARAM, "as many pointers as numbers are needed");
    if (std::set<int64_t>(uids.begin(), uids.end()).size() != uids.size()) return refuse(CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES, "a number stands twice in the variant pack");
    return CUDNN_STATUS_SUCCESS;
}
}  // namespace emu::cudnn
