// cudnn_operations.h: the names of cuDNN's graph API, and what its operations do: products, pointwise operations, reductions along rows
// and transpositions of matrices, in fp32, head after head.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>
#include "cuda_bf16.h"

#define EMU_CUDNN_STATUSES(S)                                                                                       \
    S(SUCCESS, 0) S(NOT_INITIALIZED, 1001) S(BAD_PARAM, 2000) S(BAD_PARAM_NULL_POINTER, 2002)                       \
    S(BAD_PARAM_MISALIGNED_POINTER, 2003) S(BAD_PARAM_NOT_FINALIZED, 2004) S(BAD_PARAM_SHAPE_MISMATCH, 2008)        \
    S(BAD_PARAM_DUPLICATED_ENTRIES, 2009) S(BAD_PARAM_ATTRIBUTE_TYPE, 2010) S(BAD_PARAM_DESCRIPTOR_TYPE, 2012)      \
    S(NOT_SUPPORTED, 3000) S(NOT_SUPPORTED_DATA_TYPE, 3003) S(INTERNAL_ERROR, 4000)                                  \
    S(INTERNAL_ERROR_HOST_ALLOCATION_FAILED, 4003) S(EXECUTION_FAILED, 5000) S(EXECUTION_FAILED_CUDART, 5003)
enum cudnnStatus_t {
#define S(name, number) CUDNN_STATUS_##name = number,
    EMU_CUDNN_STATUSES(S)
#undef S
};
enum cudnnDataType_t { CUDNN_DATA_FLOAT = 0, CUDNN_DATA_HALF = 2, CUDNN_DATA_INT32 = 4, CUDNN_DATA_BFLOAT16 = 9, CUDNN_DATA_INT64 = 10, CUDNN_DATA_BOOLEAN = 11 };
enum cudnnReduceTensorOp_t { CUDNN_REDUCE_TENSOR_ADD = 0, CUDNN_REDUCE_TENSOR_MAX = 3 };
enum cudnnPointwiseMode_t {
    CUDNN_POINTWISE_ADD = 0, CUDNN_POINTWISE_MUL = 1, CUDNN_POINTWISE_DIV = 6, CUDNN_POINTWISE_SUB = 9, CUDNN_POINTWISE_EXP = 13, CUDNN_POINTWISE_LOG = 15,
    CUDNN_POINTWISE_IDENTITY = 21, CUDNN_POINTWISE_CMP_GT = 302, CUDNN_POINTWISE_CMP_GE = 303, CUDNN_POINTWISE_GEN_INDEX = 501, CUDNN_POINTWISE_BINARY_SELECT = 601 };
enum cudnnBackendHeurMode_t { CUDNN_HEUR_MODE_INSTANT = 0, CUDNN_HEUR_MODE_B = 1, CUDNN_HEUR_MODE_FALLBACK = 2, CUDNN_HEUR_MODE_A = 3 };
enum cudnnBackendDescriptorType_t {
    CUDNN_BACKEND_POINTWISE_DESCRIPTOR = 0, CUDNN_BACKEND_ENGINE_DESCRIPTOR = 2, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR = 3, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR = 4,
    CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR = 5, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR = 7, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR = 13, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR = 15,
    CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR = 16, CUDNN_BACKEND_TENSOR_DESCRIPTOR = 17, CUDNN_BACKEND_MATMUL_DESCRIPTOR = 18,
    CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR = 19, CUDNN_BACKEND_REDUCTION_DESCRIPTOR = 21, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR = 22,
    CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR = 31, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR = 38 };
enum cudnnBackendAttributeType_t {
    CUDNN_TYPE_HANDLE = 0, CUDNN_TYPE_DATA_TYPE = 1, CUDNN_TYPE_BOOLEAN = 2, CUDNN_TYPE_INT64 = 3, CUDNN_TYPE_VOID_PTR = 6, CUDNN_TYPE_HEUR_MODE = 8, CUDNN_TYPE_KNOB_TYPE = 9,
    CUDNN_TYPE_POINTWISE_MODE = 14, CUDNN_TYPE_BACKEND_DESCRIPTOR = 15, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE = 18, CUDNN_TYPE_INT32 = 23, CUDNN_TYPE_CHAR = 24 };
enum cudnnBackendAttributeName_t {
    CUDNN_ATTR_POINTWISE_MODE = 0, CUDNN_ATTR_POINTWISE_MATH_PREC = 1, CUDNN_ATTR_POINTWISE_AXIS = 9,
    CUDNN_ATTR_ENGINEHEUR_MODE = 200, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH = 201, CUDNN_ATTR_ENGINEHEUR_RESULTS = 202, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP = 204,
    CUDNN_ATTR_ENGINECFG_ENGINE = 300, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES = 302, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE = 600, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE = 601,
    CUDNN_ATTR_ENGINE_OPERATION_GRAPH = 1300, CUDNN_ATTR_ENGINE_GLOBAL_INDEX = 1301, CUDNN_ATTR_ENGINE_DEVICEPROP = 1307,
    CUDNN_ATTR_EXECUTION_PLAN_HANDLE = 400, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG = 401, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE = 402,
    CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP = 407, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR = 750, CUDNN_ATTR_OPERATION_POINTWISE_XDESC = 751,
    CUDNN_ATTR_OPERATION_POINTWISE_BDESC = 752, CUDNN_ATTR_OPERATION_POINTWISE_YDESC = 753, CUDNN_ATTR_OPERATION_POINTWISE_TDESC = 758,
    CUDNN_ATTR_OPERATIONGRAPH_HANDLE = 800, CUDNN_ATTR_OPERATIONGRAPH_OPS = 801, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT = 900, CUDNN_ATTR_TENSOR_DATA_TYPE = 901,
    CUDNN_ATTR_TENSOR_DIMENSIONS = 902, CUDNN_ATTR_TENSOR_STRIDES = 903, CUDNN_ATTR_TENSOR_UNIQUE_ID = 906, CUDNN_ATTR_TENSOR_IS_VIRTUAL = 907,
    CUDNN_ATTR_TENSOR_IS_BY_VALUE = 908, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS = 1000, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS = 1001,
    CUDNN_ATTR_VARIANT_PACK_WORKSPACE = 1003, CUDNN_ATTR_MATMUL_COMP_TYPE = 1500, CUDNN_ATTR_OPERATION_MATMUL_ADESC = 1520,
    CUDNN_ATTR_OPERATION_MATMUL_BDESC = 1521, CUDNN_ATTR_OPERATION_MATMUL_CDESC = 1522, CUDNN_ATTR_OPERATION_MATMUL_DESC = 1523,
    CUDNN_ATTR_REDUCTION_OPERATOR = 1600, CUDNN_ATTR_REDUCTION_COMP_TYPE = 1601, CUDNN_ATTR_OPERATION_REDUCTION_XDESC = 1610,
    CUDNN_ATTR_OPERATION_REDUCTION_YDESC = 1611, CUDNN_ATTR_OPERATION_REDUCTION_DESC = 1612, CUDNN_ATTR_OPERATION_RESHAPE_XDESC = 2200,
    CUDNN_ATTR_OPERATION_RESHAPE_YDESC = 2201, CUDNN_ATTR_DEVICEPROP_DEVICE_ID = 2700, CUDNN_ATTR_DEVICEPROP_HANDLE = 2701,
    CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION = 2702 };
enum cudnnBackendKnobType_t {
    CUDNN_KNOB_TYPE_SWIZZLE = 1, CUDNN_KNOB_TYPE_STAGES = 14, CUDNN_KNOB_TYPE_KERNEL_CFG = 24, CUDNN_KNOB_TYPE_TILE_CGA_M = 27, CUDNN_KNOB_TYPE_STREAM_K = 38,
    CUDNN_KNOB_TYPE_TILE_M = 40, CUDNN_KNOB_TYPE_TILE_N = 41, CUDNN_KNOB_TYPE_COUNTS = 44 };
struct cudnnContext { cudaStream_t stream = nullptr; };
using cudnnHandle_t = cudnnContext*;
using cudnnBackendDescriptor_t = void*;

namespace emu {
// For tests of the choice between implementations:
inline bool& cudnn_refuses() { static bool refuses = false; return refuses; }        // the heuristics find nothing
inline int& cudnn_unbuildable() { static int ways = 0; return ways; }                // as many of the first ways do not become plans
inline size_t& cudnn_version() { static size_t version = 91900; return version; }       // that of the library, and
inline int& cudnn_sm() { static int sm = 90; return sm; }                               // that of the GPU: both have to do with what is built
inline int& cudnn_plans() { static int plans = 0; return plans; }                       // built so far
inline double& cudnn_ticks() { static double ticks = 1000; return ticks; }              // of the emulated clock that an execution takes
}  // namespace emu

namespace emu::cudnn {
inline std::string& last_reason() { static std::string why; return why; }
inline cudnnStatus_t refuse(cudnnStatus_t status, const std::string& why) { last_reason() = why; return status; }

// ---- what a graph is made of -------------------------------------------------------------------------------------------------
using Four = std::array<int64_t, 4>;
struct Tensor {
    int64_t uid = 0, alignment = 0;
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    Four dims{}, strides{};
    bool is_virtual = false, by_value = false;
    bool operator==(const Tensor&) const = default;
    bool in_memory() const { return !is_virtual && !by_value; }
    size_t element() const { return type == CUDNN_DATA_BFLOAT16 ? 2 : 4; }
    size_t offset(Four at) const {  // in elements
        int64_t sum = 0;
        for (size_t i = 0; i < 4; i++) sum += dims[i] > 1 ? at[i] * strides[i] : 0;
        return (size_t)sum;
    }
    size_t bytes() const { return (offset({dims[0] - 1, dims[1] - 1, dims[2] - 1, dims[3] - 1}) + 1) * element(); }
    std::string text() const {
        std::string s = "tensor " + std::to_string(uid) + " (";
        for (size_t i = 0; i < 4; i++) s += std::to_string(dims[i]) + (i < 3 ? ", " : ")");
        return s;
    }
};
struct Operation {
    cudnnBackendDescriptorType_t kind;
    int mode = 0;                 // of pointwise operations and reductions
    int64_t axis = -1;
    std::vector<Tensor> inputs;   // a, b of a product; else x, b, t
    Tensor output;
};
enum class Kind { FORWARD, SEPARATE_GEMM, DQ_ACCUM };  // the latter: backwards, whose dq is a GEMM of its own or accumulated in fp32 in memory
struct Graph {
    std::vector<Operation> operations;  // each after those whose results it takes
    std::map<int64_t, Tensor> tensors;
    std::set<int64_t> produced;
    std::string unsupported;            // why no engine can run it; empty: one can
    Kind kind = Kind::FORWARD;
    int64_t workspace = 0, counters = 0, summed = 0;  // bytes; counters: the semaphores; summed: what query heads add to a group's dk and dv
    bool deterministic = false;         // fp32 sums in memory are accumulated in a fixed order
};

// ---- what an execution does ---------------------------------------------------------------------------------------------------
struct Matrix {  // of one head; where it has one row or one column, that is all of them
    const float* p;
    size_t row, column;
    Matrix(const Tensor& t, const std::vector<float>& values) : p(values.data()), row(t.dims[2] > 1 ? (size_t)t.dims[3] : 0), column(t.dims[3] > 1) {}
};
// y += a * x, side by side
EMU_OWN inline void add_times(float* y, float a, const float* x, size_t n) {
    typedef float Lanes __attribute__((vector_size(64), aligned(4), may_alias));
    size_t j = 0;
    for (; j + 16 <= n; j += 16) *(Lanes*)(y + j) += a * *(const Lanes*)(x + j);
    for (; j < n; j++) y[j] += a * x[j];
}
// first: the term of a product's sums that comes first
EMU_OWN inline std::vector<float> evaluate(const Operation& o, const std::vector<Matrix>& in, int64_t batch, int64_t head, size_t first) {
    const size_t rows = (size_t)o.output.dims[2], columns = (size_t)o.output.dims[3];
    std::vector<float> result(rows * columns);
    float* const y = result.data();
    const Matrix x = in[0], b = in[in.size() > 1 ? 1 : 0], t = in.back();
    if (o.kind == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR) {
        const size_t terms = (size_t)o.inputs[0].dims[3];
        for (size_t i = 0; i < rows; i++) for (size_t n = 0; n < terms; n++) {
            const size_t l = (first + n) % terms;
            const float a = x.p[i * x.row + l * x.column];
            if (b.column || columns == 1) add_times(y + i * columns, a, b.p + l * b.row, columns);
            else for (size_t j = 0; j < columns; j++) y[i * columns + j] += a * b.p[l * b.row];
        }
    } else if (o.kind == CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR) {
        const bool max = o.mode == CUDNN_REDUCE_TENSOR_MAX;
        if (max) std::fill(result.begin(), result.end(), -std::numeric_limits<float>::infinity());
        const size_t n = (size_t)o.inputs[0].dims[2], m = (size_t)o.inputs[0].dims[3];
        for (size_t i = 0; i < n; i++) for (size_t j = 0; j < m; j++) {
            float &sum = y[(rows > 1 ? i : 0) * columns + (columns > 1 ? j : 0)];
            const float e = x.p[i * x.row + j * x.column];
            sum = !max ? sum + e : e > sum || e != e ? e : sum;
        }
    } else if (o.kind == CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR) {
        for (size_t i = 0; i < rows; i++) for (size_t j = 0; j < columns; j++) y[i * columns + j] = x.p[j * x.row + i * x.column];
    } else for (size_t i = 0; i < rows; i++) {
        const float *xs = x.p + i * x.row, *bs = b.p + i * b.row, *ts = t.p + i * t.row;
        for (size_t j = 0; j < columns; j++, xs += x.column, bs += b.column, ts += t.column) {
            float& e = y[i * columns + j];
            switch (o.mode) {
                case CUDNN_POINTWISE_IDENTITY: e = *xs; break;
                case CUDNN_POINTWISE_EXP: e = std::exp(*xs); break;
                case CUDNN_POINTWISE_LOG: e = std::log(*xs); break;
                case CUDNN_POINTWISE_ADD: e = *xs + *bs; break;
                case CUDNN_POINTWISE_SUB: e = *xs - *bs; break;
                case CUDNN_POINTWISE_MUL: e = *xs * *bs; break;
                case CUDNN_POINTWISE_DIV: e = *xs / *bs; break;
                case CUDNN_POINTWISE_CMP_GT: e = *xs > *bs; break;
                case CUDNN_POINTWISE_CMP_GE: e = *xs >= *bs; break;
                case CUDNN_POINTWISE_BINARY_SELECT: e = *ts != 0 ? *xs : *bs; break;
                case CUDNN_POINTWISE_GEN_INDEX: e = (float)(o.axis == 0 ? batch : o.axis == 1 ? head : (int64_t)(o.axis == 2 ? i : j)); break;
            }
        }
    }
    if (o.output.type == CUDNN_DATA_BFLOAT16) for (float& e : result) e = (float)__nv_bfloat16(e);
    return result;
}

// f(begin, bytes) for each run of elements that lie together: between the rows of a head are those of others.
template <class F> void for_runs(const Tensor& t, char* p, F f) {
    Four n = t.dims;
    size_t run = 1;
    for (size_t i = 4; i-- > 0;) if (t.dims[i] > 1 && t.strides[i] == 1) { run = (size_t)t.dims[i], n[i] = 1; break; }
    for (int64_t i = 0; i < n[0]; i++) for (int64_t j = 0; j < n[1]; j++) for (int64_t k = 0; k < n[2]; k++) for (int64_t l = 0; l < n[3]; l++)
        f(p + t.offset({i, j, k, l}) * t.element(), run * t.element());
}
struct Execution {
    std::shared_ptr<const Graph> graph;
    std::map<int64_t, char*> at;       // tensors in memory
    std::map<int64_t, float> numbers;  // by value, as they were when the call was made
    char* workspace = nullptr;

    cudnnStatus_t bind(const std::vector<int64_t>& uids, const std::vector<char*>& pointers, char* own) {
        for (auto& [uid, t] : graph->tensors) if (!t.is_virtual) {
            const size_t i = (size_t)(std::find(uids.begin(), uids.end(), uid) - uids.begin());
            if (i == uids.size()) return refuse(CUDNN_STATUS_BAD_PARAM, t.text() + " is not in the variant pack");
            char* p = pointers[i];
            if (!p) return refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, t.text() + " is at a null pointer");
            if (t.by_value) {
                if (memory().in_region(p)) return refuse(CUDNN_STATUS_BAD_PARAM, t.text() + " is given by value, but lies on the device");
                int32_t whole;
                memcpy(&whole, p, 4);
                if (t.type == CUDNN_DATA_INT32) numbers[uid] = (float)whole;
                else memcpy(&numbers[uid], p, 4);
                continue;
            }
            if ((size_t)p % (size_t)t.alignment) return refuse(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER, t.text() + " is not aligned to " + std::to_string(t.alignment) + " bytes");
            if (!memory().in_region(p)) return refuse(CUDNN_STATUS_EXECUTION_FAILED, t.text() + " is not in the device's memory");
            if (!copy_fits("cudnnBackendExecute", p, t.bytes())) return refuse(CUDNN_STATUS_EXECUTION_FAILED, t.text() + " is not within one allocation");
            at[uid] = p;
        }
        workspace = own;
        if (graph->workspace == 0) return disjoint();
        if (!workspace) return refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "no workspace");
        if ((size_t)workspace % 16) return refuse(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER, "the workspace is not aligned to 16 bytes");
        if (!memory().in_region(workspace) || !copy_fits("cudnnBackendExecute", workspace, (size_t)graph->workspace))
            return refuse(CUDNN_STATUS_EXECUTION_FAILED, "the workspace of " + std::to_string(graph->workspace) + " bytes is not within one allocation");
        return disjoint();
    }
    // What is written lies apart from all else: blocks write while others still read.
    cudnnStatus_t disjoint() const {
        struct Run { char *begin, *end; int64_t uid; bool written; };
        std::vector<Run> runs{{workspace, workspace + graph->workspace, -1, true}};
        for (auto& [uid, p] : at) for_runs(graph->tensors.at(uid), p, [&, id = uid](char* begin, size_t bytes) { runs.push_back({begin, begin + bytes, id, graph->produced.count(id) > 0}); });
        std::sort(runs.begin(), runs.end(), [](const Run& x, const Run& y) { return x.begin < y.begin; });
        Run last{}, last_written{};  // the furthest ends so far
        for (const Run& r : runs) {
            const Run& before = r.written ? last : last_written;
            if (r.begin < before.end)
                return refuse(CUDNN_STATUS_EXECUTION_FAILED, "tensor " + std::to_string(r.uid) + " lies where tensor " + std::to_string(before.uid) + " is, and one is written (-1: the workspace)");
            if (r.end > last.end) last = r;
            if (r.written && r.end > last_written.end) last_written = r;
        }
        return CUDNN_STATUS_SUCCESS;
    }

    EMU_OWN std::vector<float> load(const Tensor& t, int64_t batch, int64_t head) const {
        if (t.by_value) return {numbers.at(t.uid)};
        const size_t rows = (size_t)t.dims[2], columns = (size_t)t.dims[3];
        std::vector<float> values(rows * columns);
        float* x = values.data();
        for (size_t i = 0; i < rows; i++) {
            const char* p = at.at(t.uid) + t.offset({batch, head, (int64_t)i, 0}) * t.element();
            const size_t step = (size_t)t.strides[3];
            for (size_t j = 0; j < columns; j++) *x++ = t.type == CUDNN_DATA_FLOAT ? ((const float*)p)[j * step] : std::bit_cast<float>((uint32_t)((const __nv_bfloat16*)p)[j * step].bits << 16);
        }
        return values;
    }
    EMU_OWN void store(const Tensor& t, int64_t batch, int64_t head, const std::vector<float>& values) const {
        const float* y = values.data();
        for (int64_t i = 0; i < t.dims[2]; i++) {
            char* p = at.at(t.uid) + t.offset({batch, head, i, 0}) * t.element();
            const size_t step = (size_t)t.strides[3], columns = (size_t)t.dims[3];
            for (size_t j = 0; j < columns; j++, y++) {
                if (t.type == CUDNN_DATA_FLOAT) ((float*)p)[j * step] = *y;
                else ((__nv_bfloat16*)p)[j * step] = *y;
            }
        }
    }
    // Tensors with fewer heads than the first operation's: each goes with a group of that one's, and is what a reduction makes of the group.
    void run() const {
        if (graph->workspace > 0) memset(workspace, 0xff, (size_t)graph->workspace);  // it is the library's now
        const Four& heads = graph->operations[0].output.dims;
        std::map<int64_t, std::vector<float>> groups;  // of their heads so far
        for (int64_t batch = 0; batch < heads[0]; batch++) for (int64_t head = 0; head < heads[1]; head++) {
            const auto own = [&](const Tensor& t) { return head * t.dims[1] / heads[1]; };
            std::map<int64_t, std::vector<float>> values;
            for (auto& [uid, t] : graph->tensors) if (!graph->produced.count(uid)) values[uid] = load(t, batch, own(t));
            for (const Operation& o : graph->operations) {
                std::vector<Matrix> in;
                for (const Tensor& t : o.inputs) in.push_back({t, values.at(t.uid)});
                // fp32 products in memory are what blocks add to (dq), in any order or a fixed one; others are one block's, in order
                const bool any_order = !graph->deterministic && o.kind == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR && o.output.in_memory() && o.output.type == CUDNN_DATA_FLOAT;
                auto& y = values[o.output.uid] = evaluate(o, in, batch, head, any_order ? random((uint32_t)o.inputs[0].dims[3]) : 0);
                if (o.kind == CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR && o.output.dims[1] < heads[1]) {
                    std::vector<float>& group = groups[o.output.uid];
                    const bool first = head % (heads[1] / o.output.dims[1]) == 0, max = o.mode == CUDNN_REDUCE_TENSOR_MAX;
                    for (size_t i = 0; i < y.size() && !first; i++) y[i] = max ? std::max(group[i], y[i]) : group[i] + y[i];
                    group = y;
                }
                if (o.output.in_memory()) store(o.output, batch, own(o.output), y);
            }
        }
        for (auto& [uid, p] : at) if (graph->produced.count(uid)) for_runs(graph->tensors.at(uid), p, [](char* begin, size_t bytes) { EMU_WATCH(written(begin, bytes)); });
    }
};
}  // namespace emu::cudnn
