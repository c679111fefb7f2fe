// cudnn_graph.h: a stand-in for cuDNN's graph API: its calls; a plan runs in the order of the stream, as an interpreter of its operations
// (cudnn_operations.h). What the library refuses is refused here with the same status (test/cudnn/wrong_calls.h asks both); and more: that
// takes tensors without a number, shapes that do not go together and values that nobody computes, and fails later or never. Reasons are in
// this file's words.
#pragma once
#define CUDNN_STAND_IN 1
#include "cudnn_descriptors.h"

// ---- the calls -----------------------------------------------------------------------------------------------------------------
#define EMU_CUDNN_ENTER() do { if (emu::enter(__func__) != cudaSuccess) return emu::cudnn::refuse(CUDNN_STATUS_EXECUTION_FAILED, "on request, or after an error of the device"); } while (0)
inline size_t cudnnGetVersion() { return emu::cudnn_version(); }
inline size_t cudnnGetCudartVersion() { return 13000; }
inline const char* cudnnGetErrorString(cudnnStatus_t status) {
#define S(name, number) if (status == CUDNN_STATUS_##name) return "CUDNN_STATUS_" #name;
    EMU_CUDNN_STATUSES(S)
#undef S
    return "unknown";
}
// The reason is given once.
inline void cudnnGetLastErrorString(char* message, size_t size) {
    if (size) snprintf(message, size, "%s", emu::cudnn::last_reason().c_str());
    emu::cudnn::last_reason().clear();
}
inline cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
    EMU_CUDNN_ENTER();
    if (!handle) return emu::cudnn::refuse(CUDNN_STATUS_BAD_PARAM, "nowhere to put a handle");
    if (emu::unsafe(__func__) != cudaSuccess) return emu::cudnn::refuse(CUDNN_STATUS_EXECUTION_FAILED_CUDART, "a handle is made while a stream is captured");
    emu::cudnn::handles().insert(*handle = new cudnnContext);
    return CUDNN_STATUS_SUCCESS;
}
inline cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
    if (!emu::cudnn::handles().erase(handle)) return emu::cudnn::refuse(CUDNN_STATUS_BAD_PARAM, "no handle, or destroyed before");
    delete handle;
    return CUDNN_STATUS_SUCCESS;
}
inline cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
    EMU_CUDNN_ENTER();
    if (!emu::cudnn::handles().count(handle)) return emu::cudnn::refuse(CUDNN_STATUS_BAD_PARAM, "no handle, or destroyed before");
    if (stream && !emu::queue().streams.count(stream)) return emu::cudnn::refuse(CUDNN_STATUS_BAD_PARAM, "no stream, or destroyed before");
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}
inline cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t* descriptor) {
    EMU_CUDNN_ENTER();
    if (!descriptor) return emu::cudnn::refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "nowhere to put a descriptor");
    const bool known = type == CUDNN_BACKEND_ENGINECFG_DESCRIPTOR || std::any_of(std::begin(emu::cudnn::RULES), std::end(emu::cudnn::RULES), [&](const auto& r) { return r.owner == type; });
    if (!known) return emu::cudnn::refuse(CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED, "a descriptor of a type that there is not");
    auto d = std::make_shared<emu::cudnn::Descriptor>();
    d->type = type, emu::cudnn::alive()[d.get()] = d, *descriptor = d.get();
    return CUDNN_STATUS_SUCCESS;
}
inline cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
    return emu::cudnn::alive().erase(descriptor) ? CUDNN_STATUS_SUCCESS : emu::cudnn::refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "no descriptor, or destroyed before");
}
inline cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count, const void* elements) {
    using namespace emu::cudnn;
    const DescriptorPtr d = find(descriptor);
    if (!d) return refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "no descriptor, or destroyed before");
    if (!elements && count > 0) return refuse(CUDNN_STATUS_BAD_PARAM, "no elements");
    if (d->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR && name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) return refuse(CUDNN_STATUS_NOT_SUPPORTED, "a plan's workspace is asked for, not set");
    const Rule* rule = std::find_if(std::begin(RULES), std::end(RULES), [&](const Rule& r) { return r.owner == d->type && r.name == name; });
    if (rule == std::end(RULES)) return refuse(CUDNN_STATUS_BAD_PARAM, "a descriptor of type " + std::to_string(d->type) + " has no attribute " + std::to_string(name));
    const std::string text = rule->text;
    if (d->finalized) return refuse(CUDNN_STATUS_BAD_PARAM, text + " is set after finalize");
    if (type != rule->type) return refuse(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, text + " is set with a wrong type");
    if (count < (rule->links == AN_OPERATION ? 0 : 1) || count > rule->most) return refuse(CUDNN_STATUS_BAD_PARAM, text + " is set with a wrong number of elements");
    Attribute a{type, count, {(const char*)elements, (const char*)elements + (size_t)count * size_of(type)}, {}};
    if (type == CUDNN_TYPE_HANDLE && !handles().count(*(const cudnnHandle_t*)elements)) return refuse(CUDNN_STATUS_BAD_PARAM, text + " is set to no handle, or one destroyed before");
    std::set<int> knobs;
    for (int64_t i = 0; type == CUDNN_TYPE_BACKEND_DESCRIPTOR && i < count; i++) {
        const DescriptorPtr to = a.links.emplace_back(find(((const cudnnBackendDescriptor_t*)elements)[i]));
        if (!to) return refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, text + " is set to no descriptor, or one destroyed before");
        const bool operation = to->type == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR || to->type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR ||
                               to->type == CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR || to->type == CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR;
        if (rule->links == AN_OPERATION ? !operation : to->type != rule->links) return refuse(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, text + " is set to a descriptor of another type");
        if (!to->finalized) return refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, text + " is set to a descriptor that is not finalized");
        if (to->type == CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR && !knobs.insert(to->get<int>(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE)).second) return refuse(CUDNN_STATUS_BAD_PARAM, text + " has a knob twice");
    }
    d->attributes[name] = std::move(a);
    return CUDNN_STATUS_SUCCESS;
}
inline cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
    EMU_CUDNN_ENTER();
    using namespace emu::cudnn;
    const DescriptorPtr d = find(descriptor);
    if (!d) return refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "no descriptor, or destroyed before");
    if (d->finalized) return refuse(CUDNN_STATUS_BAD_PARAM, "finalized twice");
    for (const Rule& r : RULES) if (r.owner == d->type && r.required && !d->attributes.count(r.name)) return refuse(CUDNN_STATUS_BAD_PARAM, std::string(r.text) + " is missing");
    cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
    switch (d->type) {
        case CUDNN_BACKEND_TENSOR_DESCRIPTOR: status = finalize_tensor(*d); break;
        case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR: case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR: case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
        case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR: status = finalize_operation(*d); break;
        case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR: status = finalize_graph(*d); break;
        case CUDNN_BACKEND_POINTWISE_DESCRIPTOR: status = finalize_mode(*d); break;
        case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR: status = finalize_heuristics(*d); break;
        case CUDNN_BACKEND_ENGINE_DESCRIPTOR: status = finalize_engine(*d); break;
        case CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR: status = finalize_knob(*d); break;
        case CUDNN_BACKEND_ENGINECFG_DESCRIPTOR: status = finalize_config(*d); break;
        case CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR: status = finalize_device(*d); break;
        case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR: status = finalize_plan(*d); break;
        case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR: status = finalize_pack(*d); break;
        default: break;
    }
    d->finalized = status == CUDNN_STATUS_SUCCESS;
    return status;
}
// Heuristics propose two ways, which do the same.
inline cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const descriptor, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t wanted,
                                              int64_t* count, void* elements) {
    EMU_CUDNN_ENTER();
    using namespace emu::cudnn;
    const DescriptorPtr d = find(descriptor);
    if (!d || !count) return refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, d ? "nowhere to put the number of elements" : "no descriptor, or destroyed before");
    if (!d->finalized) return refuse(CUDNN_STATUS_NOT_INITIALIZED, "an attribute is asked for before finalize");
    if (d->type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR && name == CUDNN_ATTR_ENGINEHEUR_RESULTS) {
        if (type != CUDNN_TYPE_BACKEND_DESCRIPTOR) return refuse(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "results are descriptors");
        if (wanted < 0) return refuse(CUDNN_STATUS_BAD_PARAM, "fewer than no results");
        const std::string why = emu::cudnn_refuses() ? "nothing is found, on request" : d->graph->unsupported;
        *count = 0;
        if (!why.empty()) return refuse(CUDNN_STATUS_SUCCESS, why);
        if (!elements) { *count = 2; return CUDNN_STATUS_SUCCESS; }
        for (; *count < std::min<int64_t>(wanted, 2); ++*count) {
            const DescriptorPtr config = find(((cudnnBackendDescriptor_t*)elements)[*count]);
            if (!config || config->type != CUDNN_BACKEND_ENGINECFG_DESCRIPTOR || config->finalized) return refuse(CUDNN_STATUS_BAD_PARAM, "a result goes to a new engine configuration");
            const auto engine = std::make_shared<Descriptor>();
            engine->type = CUDNN_BACKEND_ENGINE_DESCRIPTOR, engine->finalized = true;
            const int64_t number = d->graph->kind == emu::cudnn::Kind::FORWARD ? 2 : 6;
            engine->attributes[CUDNN_ATTR_ENGINE_GLOBAL_INDEX] = {CUDNN_TYPE_INT64, 1, {(const char*)&number, (const char*)(&number + 1)}, {}};
            config->attributes[CUDNN_ATTR_ENGINECFG_ENGINE] = {CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, {}, {engine}};
            config->graph = d->graph, config->config_index = (int)*count, config->finalized = true;
        }
        return CUDNN_STATUS_SUCCESS;
    }
    auto a = d->attributes.find(name);
    if (a == d->attributes.end()) return refuse(CUDNN_STATUS_BAD_PARAM, "an attribute that is not set is asked for");
    if (a->second.type != type) return refuse(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "an attribute is asked for with a wrong type");
    *count = a->second.count;
    if (elements && (wanted < 1 || (wanted > *count && type != CUDNN_TYPE_BACKEND_DESCRIPTOR))) return refuse(CUDNN_STATUS_BAD_PARAM, "an attribute is asked for into a wrong number of elements");
    if (elements && type == CUDNN_TYPE_BACKEND_DESCRIPTOR) for (int64_t i = 0; i < std::min(wanted, *count); i++) {
        const DescriptorPtr to = find(((cudnnBackendDescriptor_t*)elements)[i]);
        if (!to || to->type != a->second.links[(size_t)i]->type || to->finalized) return refuse(CUDNN_STATUS_BAD_PARAM, "an attribute goes to a new descriptor of its type");
        *to = *a->second.links[(size_t)i];
    } else if (elements) memcpy(elements, a->second.bytes.data(), (size_t)wanted * size_of(type));
    return CUDNN_STATUS_SUCCESS;
}
inline cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack) {
    EMU_CUDNN_ENTER();
    using namespace emu::cudnn;
    const DescriptorPtr p = find(plan), v = find(pack);
    if (!handles().count(handle) || !p || !v) return refuse(CUDNN_STATUS_BAD_PARAM, "no handle, plan or variant pack, or destroyed before");
    if (p->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR || v->type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR) return refuse(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "not a plan and a variant pack");
    if (!p->finalized || !v->finalized) return refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "the plan or the variant pack is not finalized");
    if (handle->stream && !emu::queue().streams.count(handle->stream)) return refuse(CUDNN_STATUS_BAD_PARAM, "the handle's stream is destroyed");
    auto execution = std::make_shared<Execution>();
    execution->graph = p->graph;
    const cudnnStatus_t bound = execution->bind(v->all<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS), v->all<char*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS),
                                                v->get<char*>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE));
    if (bound != CUDNN_STATUS_SUCCESS) return bound;
    const cudaError_t enqueued = emu::enqueue(handle->stream, __func__, [execution] {
        emu::queue().clock += 0.01 * (emu::cudnn_ticks() - 1);
        execution->run();
    });
    return enqueued == cudaSuccess ? CUDNN_STATUS_SUCCESS : refuse(CUDNN_STATUS_EXECUTION_FAILED_CUDART, cudaGetErrorName(enqueued));
}
