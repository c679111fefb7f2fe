// model.h: a model in memory: every buffer of a run, planned before the first byte is taken, and what a layer sees of it.
#pragma once
#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>
#include "../backend.h"
#include "../base/arena.h"
#include "config.h"
#include "tensors.h"

struct ModelOptions {
    int B, T, recompute = 0, grad_accum = 1;
    int shards = 1;  // ranks over which masters and moments are divided
    Update optimizer = ADAMW;
    bool train = true, master_weights = true;
    int eval_T = 0, complete_T = 0;  // the longest row that evaluations score, and complete: the model's context allows more than T
    int mask_eot = -1;  // the token at which documents begin, if attention stays within them; -1: it does not
    bool separate_buffers = false;
    KernelOptions kernels{.tf32 = true};
    bool any_gpu = false;  // a plan for a GPU that is not here
};

template <class F> class Model {
public:
    const Config config;
    const ModelOptions options;
    const ParameterList parameters;
    Arena device, pinned;
    stream_t stream{};

    F* params = nullptr;       // all parameters, flat, in the order of the list
    float* master = nullptr;   // the same in fp32 if F is not
    float* grads = nullptr;    // their gradients
    float *m = nullptr, *v = nullptr;  // AdamW's moments
    double *norm_squared = nullptr, *loss_sum = nullptr;  // (1) of this step, so far
    StepStats* step_stats = nullptr;        // (1) on this step
    History* history = nullptr;        // (1) losses and norms of the last steps
    Segment* segments = nullptr;       // (parameters) of the flat buffers: which of them decay
    char* workspace = nullptr;         // of the stream's kernels
    int* tokens = nullptr;             // (2, most_tokens()) inputs and targets on the device
    // in pinned memory
    StepStats* host_step_stats = nullptr;   // of the last step that was reported or waits for it
    History* host_history = nullptr;   // in transit between checkpoints and the device
    double* host_loss_sum = nullptr;   // of a validation batch
    int* host_batches = nullptr;       // (slots, 2, B, T) the data loader's, for training and then for validation
    float* staging = nullptr;          // a tensor in transit between files and the device; in bf16 followed by space for its rounded copy
    event_t step_checked{};                  // host_step_stats has arrived, and all batches of its step have been read
    graph_t micro_steps[2]{};          // a step's first micro-batch, and one that accumulates

    // Plans all memory; nothing is allocated before allocate().
    Model(const Config& c, const ModelOptions& o) : config(c), options(o), parameters(c), device(o.separate_buffers) {
        const size_t N = this->N(), most = most_tokens(), cached = (size_t)std::max(o.T, o.complete_T), C = (size_t)c.C, Vp = (size_t)c.Vp(), L = (size_t)c.L;
        const size_t n = parameters.elements, train = o.train, mask = o.mask_eot >= 0;
        const size_t QKV = (size_t)c.QKV(), FF = (size_t)c.FF;
        const int NH = c.NH;
        const bool has_master = train && !std::is_same_v<F, float> && o.master_weights;
        // The classifier's chunk. dwte is read and written once a chunk, in fp32: 8 C bytes for 10 of a row's logits, so that few
        // long chunks move less than many that fit in a cache. About as many rows as fit where dfch will be, or 26 M logits, all chunks
        // alike. LOG 23
        const size_t chunks = (N * Vp - 1) / std::max(N * FF, (size_t)26 << 20) + 1;
        chunk = std::min(N, ((N - 1) / chunks + 128) / 128 * 128);

        buffer(params, device, "params", "parameters", n, ALWAYS);
        size_t shard = 0;  // the largest
        const std::vector<size_t> bounds = parameters.shard_bounds(o.shards, o.optimizer);
        for (size_t r = 1; r < bounds.size(); r++) shard = std::max(shard, bounds[r] - bounds[r - 1]);
        buffer(master, device, "master", "master weights", has_master * shard, ALWAYS);
        buffer(grads, device, "grads", "gradients", train * n, ALWAYS);
        buffer(m, device, "m", "AdamW moments", train * shard, ALWAYS);
        buffer(v, device, "v", "AdamW moments", train * shard, ALWAYS);
        buffer(norm_squared, device, "norm", "scratch", 1, ALWAYS);
        buffer(loss_sum, device, "loss", "scratch", 1, ALWAYS);
        buffer(step_stats, device, "step_stats", "scratch", 1, ALWAYS);
        buffer(history, device, "history", "scratch", 1, ALWAYS);
        buffer(segments, device, "segments", "scratch", parameters.all.size(), ALWAYS);
        buffer(workspace, device, "workspace", "scratch", workspace_bytes(most, c.C, widest_output(), c.Vp()), ALWAYS);
        buffer(tokens, device, "tokens", "activations", 2 * most, ALWAYS);
        const auto recomputes = [&](Recompute level) { return o.recompute >= level; };
        const auto kept_unless = [&](Recompute level) { return recomputes(level) ? (size_t)1 : L; };
#define ADD(field, type, copies, elements, category, live_range) \
        activation_stride[A_##field] = (copies) > 1 ? align_up((size_t)(elements)) : 0; \
        activation_buffers[A_##field] = device.add(#field, category, ((copies) > 1 ? (copies) * activation_stride[A_##field] : (copies) * (size_t)(elements)) * sizeof(type), live_range);
        ACTIVATIONS(ADD)
#undef ADD
        buffer(host_step_stats, pinned, "step_stats", "host", 1, ALWAYS);
        buffer(host_history, pinned, "history", "host", 1, ALWAYS);
        buffer(host_loss_sum, pinned, "loss", "host", 1, ALWAYS);
        buffer(host_batches, pinned, "batches", "host", (training_slots() + VALIDATION_SLOTS) * 2 * N, ALWAYS);
        buffer(staging, pinned, "staging", "host", staging_floats() * (std::is_same_v<F, float> ? 2 : 3) / 2, ALWAYS);
        device.plan();
        pinned.plan();
    }

    void allocate() {
        device.allocate(device_alloc);
        pinned.allocate(pinned_alloc);
        for (const Field& f : fields) {
            void* memory = f.arena->template pointer<char>(f.buffer);
            memcpy(f.pointer, &memory, sizeof memory);  // a float*, an int*, ...: whatever the field is
        }
        const auto tensor = [&](auto* flat, ParameterRow row, size_t l) {  // null if it does not exist
            return flat && parameters.first[row] != parameters.NONE ? flat + parameters.first[row] + l * parameters.stride[row] : nullptr;
        };
        blocks.resize((size_t)config.L);
        for (size_t l = 0; l < blocks.size(); l++) {
            Block<F>& b = blocks[l];
#define VIEW(field, ...) \
            b.field = tensor(params, P_##field, l), b.d##field = tensor(grads, P_##field, l);
            PARAMETERS(VIEW, VIEW)
#undef VIEW
#define VIEW(field, type, ...) \
            b.field = device.template pointer<type>(activation_buffers[A_##field]); \
            if (b.field) b.field += l * activation_stride[A_##field];
            ACTIVATIONS(VIEW)
#undef VIEW
        }
        stream = open_stream(stream_options());
        step_checked = make_event();
        std::vector<Segment> list;
        for (const Parameter& p : parameters.all) list.push_back({p.offset, p.size(), p.decays ? 1.0f : 0.0f});
        copy_to_device(segments, list.data(), list.size() * sizeof(Segment), stream);
        synchronize(stream);
    }

    StreamOptions stream_options() const {
        KernelOptions kernels = options.kernels;
        if (options.mask_eot >= 0 || std::is_same_v<F, float>) kernels.attention = AttentionBackend::OURS;  // cuDNN's is bf16 and has no document mask
        return {.workspace = workspace, .workspace_bytes = workspace_bytes(most_tokens(), config.C, widest_output(), config.Vp()), .kernels = kernels, .any_gpu = options.any_gpu};
    }
    size_t N() const { return (size_t)options.B * (size_t)options.T; }
    // of the largest batch: a micro-batch, or one row of an evaluation that is longer than a micro-batch
    size_t most_tokens() const { return std::max(N(), (size_t)std::max(options.eval_T, options.complete_T)); }
    int* targets() const { return tokens + most_tokens(); }
    const Block<F>& block(int l) const { return blocks[(size_t)l]; }  // what layer l sees
    const Block<F>& tensors() const { return blocks[0]; }             // for those that no layer owns
    // Batches of two steps may wait to be read while the host prepares the next: it waits for the statistics of the step before the last.
    size_t held_batches() const { return 2 * (size_t)options.grad_accum; }
    size_t training_slots() const { return held_batches() + 2; }
    static constexpr size_t VALIDATION_SLOTS = 2;
    size_t classifier_chunk() const { return chunk; }
    size_t staging_floats() const { return std::max<size_t>((size_t)config.C * (size_t)widest_output(), 1 << 18); }

private:
    int widest_output() const { return std::max({config.C, config.FF, config.QKV()}); }  // of a block's linear layers
    template <class X> void buffer(X*& field, Arena& arena, const char* name, const char* category, size_t n, unsigned live_range) {
        fields.push_back({&field, &arena, arena.add(name, category, n * sizeof(X), live_range)});
    }
    struct Field { void* pointer; const Arena* arena; size_t buffer; };
    std::vector<Field> fields;  // set by allocate()
    std::vector<Block<F>> blocks;
    size_t activation_buffers[ACTIVATION_ROWS], activation_stride[ACTIVATION_ROWS], chunk;
};

// ---- in train_gpt2.cu: what generating and evaluating do with a model -----------------------------------------------------

// What a token sees: its row of a batch (B, T), within its document if documents are kept apart; or, when generating, the caches of keys
// and values, to which T tokens at position pos are appended.
struct Attend { int B, T; bool by_document = true, cached = false; int pos = 0; };
template <class F> void forward_trunk(Model<F>& model, const int* tokens, const Attend& how);
template <class F> void classify(Model<F>& model, size_t N, float dloss, bool backward, bool accumulate);
