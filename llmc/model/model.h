// model.h: a model in memory: every buffer of a run, planned before the first byte is taken, and what a layer sees of it.
#pragma once
#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <type_traits>
#include <vector>
#include "../backend.h"
#include "../base/arena.h"
#include "../comm/comm.h"
#include "classifier_rows.h"
#include "config.h"
#include "partition.h"
#include "rope_table.h"
#include "state_cut.h"
#include "tensors.h"
#include "two_layers.h"

// Matrices of one shape.
struct MuonGroup { int rows, cols; std::vector<MuonMatrix> matrices; };

enum class Reduce { TREE, LIBRARY };  // who adds gradients over the ranks: our own code as a binary tree, or the library as it likes

struct ModelOptions {
    int B, T, recompute = 0, grad_accum = 1;
    int rank = 0, world = 1;
    int zero = 0;    // ZeRO stage, what is divided over the ranks: 1: masters and moments, 2: gradients too, 3: weights too
    int per_node = 0;  // ranks of each of several nodes, if they add gradients among themselves first: a power of two; 0: all together
    int leaves = 1;  // runs of a step's micro-batches whose sums are added as a tree; a multiple of the ranks
    Reduce reduce = Reduce::TREE;
    bool exchange_bf16 = false;  // gradients travel rounded to bf16
    Update optimizer = ADAMW;
    bool train = true, master_weights = true;
    bool copy_to_save = false;  // memory of the host for what this rank writes of a checkpoint: training goes on while it is written
    int eval_T = 0, complete_T = 0;  // the longest row that evaluations score, and complete: the model's context allows more than T
    int mask_eot = -1;  // the token at which documents begin, if attention stays within them; -1: it does not
    size_t classifier_rows = 0;  // whose logits are there at a time; 0: the fewest that are worth it
    bool separate_buffers = false;
    KernelOptions kernels{.tf32 = true};
    bool any_gpu = false;  // a plan for a GPU that is not here
};

// Of what checksums are kept, see verify.h.
enum Kind : size_t { WEIGHTS, MASTER_WEIGHTS, FIRST_MOMENTS, SECOND_MOMENTS, GRADIENTS, KINDS };

template <class F> class Model {
public:
    const Config config;
    const ModelOptions options;
    const ParameterList parameters;
    const Partition partition;     // of the gradients' sums, and of the optimizer's state if it is divided
    const std::vector<Owned> owned;  // what this rank updates
    const std::vector<std::vector<Segment>> owned_segments;  // of each of these, counted from its beginning: which elements decay
    const std::vector<MuonGroup> muon_groups;  // matrices that this rank updates by Muon, by shape
    const std::vector<OwnPiece> own_pieces;  // what of each bucket this rank adds up, and from stage 1 on updates
    const TwoLayers in_use;        // where gradients are made, and weights are used, that no rank keeps whole
    Arena device, pinned;
    Comm comm;                     // the ranks that train it; set before allocate()
    stream_t stream{};
    stream_t comm_stream{};        // of what they exchange beside the computation; of one rank the same stream

    F* params = nullptr;       // all parameters, flat, in the order of the list; in stage 3 (in_use)
    F* param_shard = nullptr;  // in stage 3: those that are owned
    float* master = nullptr;   // in fp32 if F is not: those that are owned
    float* grads = nullptr;    // (gradient buffers, parameters); from stage 2 on (in_use) of this micro-batch
    float* grad_shards = nullptr;  // from stage 2 on: (gradient buffers, owned) sums over the ranks
    float *m = nullptr, *v = nullptr;  // moments: those that are owned; of Muon's matrices m alone
    float* received = nullptr; // (most_received()) gradients of the other ranks; between steps, optimizer state, in stage 3 weights too, on its way to a file
    bf16* rounded = nullptr;   // with exchange_bf16: (largest bucket) gradients as they travel
    bf16* received_bf16 = nullptr;  // likewise: (most_received()) as they arrive
    double* loss_sum = nullptr;        // (1) of this leaf, so far
    double* sums = nullptr;            // (world, sums_of_rank()) each rank's losses, by leaf, and squares of gradients, by chunk
    unsigned* sums_order = nullptr;    // (leaves + chunks) in which they are added
    Chunk* chunks = nullptr;           // (chunks) in which the gradients are added
    StepStats* step_stats = nullptr;        // (1) on this step
    History* history = nullptr;        // (1) losses and norms of the last steps
    uint64_t* kept_sums = nullptr;     // (KINDS, chunks) checksums of weights, moments, gradients; verify.h
    uint64_t* changed = nullptr;       // (1) the first of them that memory no longer has
    Segment* segments = nullptr;       // of each owned range in turn: which of its elements decay
    MuonMatrix* muon_matrices = nullptr;  // of each of muon_groups in turn
    char* muon_scratch = nullptr;      // of the largest of them
    char* workspace = nullptr;         // of the stream's kernels
    int* tokens = nullptr;             // (2, most_tokens()) inputs and targets on the device
    // in pinned memory
    StepStats* host_step_stats = nullptr;   // of the last step that was reported or waits for it
    uint64_t* host_changed = nullptr;  // likewise
    History* host_history = nullptr;   // in transit between checkpoints and the device
    double* host_loss_sum = nullptr;   // of a validation batch
    int* host_batches = nullptr;       // (slots, 2, B, T) the data loader's, for training and then for validation
    float* staging = nullptr;          // a tensor in transit between files and the device; in bf16 followed by space for its rounded copy
    char* snapshot = nullptr;          // (snapshot_bytes()) with copy_to_save: a checkpoint's tensors, while a thread writes them
    StepEvent step_checked;                  // the step is done: host_step_stats has arrived, all batches have been read, weights are updated
    event_t computed{}, reduced{};     // gradients or weights, by the stream; all sums over the ranks, by comm_stream
    std::vector<event_t> gathered;     // (1 + L) weights of the whole model's tensors and of each layer are there, by comm_stream
    std::vector<event_t> exchanged;    // (1 + 2) from stage 2 on: gradients have left the memory where they were made
    bool has_kept_sums = false;        // of weights and moments
    bool gathering = false;            // the stream has not come after all of `gathered` yet
    static constexpr int NO_LAYER = -2;
    int layer_in[2] = {NO_LAYER, NO_LAYER};  // in stage 3: whose weights are in the memory of two layers, or on their way there
    bool fetches = true;               // false: it computes with what is there (warm-up)
    std::vector<std::array<graph_t, 2>> micro_steps;  // (gradient buffers) a leaf's first micro-batch, and one that accumulates
    bool in_parts = false;             // the micro-step under way: ranks exchange something between its parts

    // Plans all memory; nothing is allocated before allocate().
    Model(const Config& c, const ModelOptions& o)
        : config(c), options(o), parameters(c), partition(parameters, o.world, o.optimizer, {.equally = o.reduce == Reduce::LIBRARY, .per_node = o.per_node}), owned(owned_ranges(o)), owned_segments(segments_of_owned()), muon_groups(groups_of_owned()), own_pieces(partition.own_pieces(o.rank)), in_use(parameters, c.L), device(o.separate_buffers), micro_steps(o.zero < 2 ? (size_t)gradient_buffers(leaves_of_rank()) : 1) {
        const size_t N = this->N(), most = most_tokens(), cached = (size_t)std::max(o.T, o.complete_T), C = (size_t)c.C, Vp = (size_t)c.Vp(), L = (size_t)c.L;
        const size_t n = parameters.elements, train = o.train, mask = o.mask_eot >= 0, windows = c.window_of(0) > 0;
        const size_t QKV = (size_t)c.QKV(), FF = (size_t)c.FF, hidden = (size_t)c.hidden(), HS = (size_t)c.HS;
        const size_t centered = c.arch.norm == LAYERNORM, turned = c.arch.turns_heads(), qk_norm = c.arch.qk_norm, gated = c.gated(), positions = this->positions();
        const size_t NH = (size_t)c.NH, NKV = (size_t)c.NKV;
        const bool has_master = train && !std::is_same_v<F, float> && o.master_weights;
        chunk = o.classifier_rows ? std::min(N, o.classifier_rows) : least_classifier_rows(N, Vp, hidden);

        const size_t shard = o.zero ? partition.most_owned_elements() : n;
        buffer(params, device, "params", "parameters", o.zero < 3 ? n : in_use.elements, ALWAYS);
        buffer(param_shard, device, "param_shard", "parameters", (o.zero >= 3) * shard, ALWAYS);
        buffer(master, device, "master", "master weights", has_master * shard, ALWAYS);
        const bool added_by_library = o.world > 1 && o.reduce == Reduce::LIBRARY;  // by collectives, for which some memory is better than other: comm.h
        buffer(grads, device, "grads", "gradients", train * (o.zero < 2 ? micro_steps.size() * n : in_use.elements), ALWAYS, added_by_library);
        buffer(grad_shards, device, "grad_shards", "gradients", train * (o.zero >= 2) * (size_t)gradient_buffers(leaves_of_rank(), units_of_round()) * shard, ALWAYS);
        const char* moments = o.optimizer == MUON ? "moments" : "AdamW moments";
        buffer(m, device, "m", moments, train * shard, ALWAYS);
        buffer(v, device, "v", moments, train * (o.zero ? partition.most_second_moments() : Partition::second_moments_of(owned)), ALWAYS);
        buffer(received, device, "received", "exchange", (o.world > 1) * std::max(train * received_floats(), (o.zero >= 3 || (train && o.zero)) * staging_floats()), o.zero < 2 ? BACKWARD | UPDATE : ALWAYS);
        buffer(rounded, device, "rounded", "exchange", train * o.exchange_bf16 * partition.largest_bucket(), o.zero < 2 ? BACKWARD | UPDATE : ALWAYS);
        buffer(received_bf16, device, "received_bf16", "exchange", train * o.exchange_bf16 * received_floats(), o.zero < 2 ? BACKWARD | UPDATE : ALWAYS);
        buffer(sums, device, "sums", "scratch", train * (size_t)o.world * sums_of_rank(), ALWAYS, added_by_library);
        buffer(sums_order, device, "sums_order", "scratch", train * ((size_t)o.leaves + partition.chunks), ALWAYS);
        buffer(chunks, device, "chunks", "scratch", train * partition.chunks, ALWAYS);
        buffer(loss_sum, device, "loss", "scratch", 1, ALWAYS);
        buffer(step_stats, device, "step_stats", "scratch", 1, ALWAYS);
        buffer(history, device, "history", "scratch", 1, ALWAYS);
        buffer(kept_sums, device, "kept_sums", "scratch", train * KINDS * partition.chunks, ALWAYS);
        buffer(changed, device, "changed", "scratch", 1, ALWAYS);
        buffer(segments, device, "segments", "scratch", segment_list().size(), ALWAYS);
        buffer(muon_matrices, device, "muon_matrices", "scratch", train * muon_list().size(), ALWAYS);
        size_t muon_bytes = 0;
        for (const MuonGroup& g : muon_groups) muon_bytes = std::max(muon_bytes, MuonScratch(g.matrices.size(), g.rows, g.cols).bytes(sizeof(F)));
        buffer(muon_scratch, device, "muon_scratch", "scratch", train * muon_bytes, UPDATE);
        buffer(workspace, device, "workspace", "scratch", workspace_bytes(most, c.C, widest_output(), c.Vp()), ALWAYS);
        buffer(tokens, device, "tokens", "activations", 2 * most, ALWAYS);
        const auto recomputes = [&](Recompute level) { return !o.train || o.recompute >= level; };  // where nothing is trained no layer needs its own
        const auto kept_unless = [&](Recompute level) { return recomputes(level) ? (size_t)1 : L; };
#define ADD(field, type, copies, elements, category, live_range) \
        activation_stride[A_##field] = (copies) > 1 ? align_up((size_t)(elements)) : 0; \
        activation_buffers[A_##field] = device.add(#field, category, ((copies) > 1 ? (copies) * activation_stride[A_##field] : (copies) * (size_t)(elements)) * sizeof(type), live_range);
        ACTIVATIONS(ADD)
#undef ADD
        buffer(host_step_stats, pinned, "step_stats", "host", 1, ALWAYS);
        buffer(host_changed, pinned, "changed", "host", 1, ALWAYS);
        buffer(host_history, pinned, "history", "host", 1, ALWAYS);
        buffer(host_loss_sum, pinned, "loss", "host", 1, ALWAYS);
        buffer(host_batches, pinned, "batches", "host", (training_slots() + VALIDATION_SLOTS) * 2 * N, ALWAYS);
        buffer(staging, pinned, "staging", "host", staging_floats() * (std::is_same_v<F, float> ? 2 : 3) / 2, ALWAYS);
        buffer(snapshot, pinned, "snapshot", "copy for checkpoints", snapshot_bytes(), ALWAYS);
        device.plan();
        pinned.plan();
    }

    void allocate() {
        CHECK(comm.world == options.world && comm.rank == options.rank, "rank %d of %d, planned was %d of %d", comm.rank, comm.world, options.rank, options.world);
        device.allocate(device_alloc, [&](size_t bytes) { return comm.memory_of_collectives(bytes, device.places_apart()); });
        pinned.allocate(pinned_alloc);
        for (const Field& f : fields) {
            void* memory = f.arena->template pointer<char>(f.buffer);
            memcpy(f.pointer, &memory, sizeof memory);  // a float*, an int*, ...: whatever the field is
        }
        const auto tensor = [&](auto* flat, ParameterRow row, size_t l, bool of_two_layers, size_t buffer) {  // null if it does not exist
            const size_t element = parameters.first[row] + l * parameters.stride[row];
            return flat && parameters.first[row] != parameters.NONE ? flat + buffer + (of_two_layers ? in_use.at(element) : element) : nullptr;
        };
        const size_t L = (size_t)config.L;
        blocks.resize(micro_steps.size() * L);
        for (size_t i = 0; i < blocks.size(); i++) {
            Block<F>& b = blocks[i];
            const size_t l = i % L;
            const size_t buffer = i / L * parameters.elements;
#define VIEW(field, ...) \
            b.field = tensor(params, P_##field, l, options.zero >= 3, 0), b.d##field = tensor(grads, P_##field, l, options.zero >= 2, buffer);
            PARAMETERS(VIEW, VIEW)
#undef VIEW
#define VIEW(field, type, ...) \
            b.field = device.template pointer<type>(activation_buffers[A_##field]); \
            if (b.field) b.field += l * activation_stride[A_##field];
            ACTIVATIONS(VIEW)
#undef VIEW
            b.window = config.window_of((int)l);
        }
        // touched now: if memory is short that is seen before the first step, and the first save is as short as the others
        parallel_blocks(snapshot_bytes(), 1 << 21, [&](size_t begin, size_t end) { memset(snapshot + begin, 0, end - begin); });
        stream = open_stream(stream_options());
        step_checked.create();
        comm_stream = options.world > 1 ? open_stream({.kernels = options.kernels}) : stream;
        gathered.resize(1 + L), exchanged.resize(1 + 2);
        for (event_t* event : {&computed, &reduced}) *event = make_event();
        for (std::vector<event_t>* events : {&gathered, &exchanged}) for (event_t& event : *events) event = make_event();
        std::vector<float> table;  // lives until it has been copied, as the lists below
        if (float* to = tensors().cos_sin) {
            table = rope_table(config, positions());
            copy_to_device(to, table.data(), table.size() * sizeof(float), stream);
        }
        const std::vector<Segment> list = segment_list();
        copy_to_device(segments, list.data(), list.size() * sizeof(Segment), stream);
        const std::vector<MuonMatrix> matrices = muon_list();
        if (options.train) copy_to_device(muon_matrices, matrices.data(), matrices.size() * sizeof(MuonMatrix), stream);
        const std::vector<unsigned> order = partition.order_of_sums((size_t)leaves_of_rank(), sums_of_rank(), options.zero >= 2);
        const std::vector<Chunk> chunk_list = partition.chunk_list();
        if (options.train) copy_to_device(sums_order, order.data(), order.size() * sizeof(unsigned), stream);
        if (options.train) copy_to_device(chunks, chunk_list.data(), chunk_list.size() * sizeof(Chunk), stream);
        *host_changed = UNCHANGED;
        copy_to_device(changed, host_changed, sizeof(uint64_t), stream);
        synchronize(stream);
    }

    int leaves_of_rank() const { return options.leaves / options.world; }
    // From stage 2 on each rank makes a leaf in a round. What they exchange in the last level are as many sums as there are ranks, or nodes; runs of them, of a
    // power of two, are nodes of the tree: so many such units a round adds to the tree of all.
    int units_of_round() const {
        const int exchanged_sums = partition.nodes > 1 ? partition.nodes : options.world;
        return leaves_of_rank() == 1 || options.reduce == Reduce::LIBRARY ? 1 : exchanged_sums / (exchanged_sums & -exchanged_sums);
    }
    size_t sums_of_rank() const { return (size_t)leaves_of_rank() + partition.most_owned_chunks(); }
    // Which of the gradient buffers the next micro-batches write.
    void use_gradient_buffer(int buffer) { gradient_buffer = (size_t)buffer; }
    // Where the sums of leaves are: of all gradients, or of those that this rank owns.
    float* gradients(int buffer) const { return options.zero < 2 ? grads + (size_t)buffer * parameters.elements : grad_shards + (size_t)buffer * partition.most_owned_elements(); }
    F* weights_at(size_t element) const { return params + (options.zero < 3 ? element : in_use.at(element)); }
    // Where the gradients of a micro-batch are made.
    float* made_at(size_t element) const { return grads + (options.zero < 2 ? element : in_use.at(element)); }
    // Of the memory of two layers, and that of the whole model's tensors before it.
    static size_t slot_of(int layer) { return layer == WHOLE_MODEL ? 0 : 1 + (size_t)TwoLayers::slot_of(layer); }
    double* own_sums() const { return sums + (size_t)options.rank * sums_of_rank(); }

    // A micro-step is captured once and then replayed, as one graph. Where ranks exchange something beside it, each part between two exchanges is one, of
    // a phase and a layer, and in the backward pass of the gradients that it writes.
    graph_t& graph_of_micro_step(bool accumulate) { return micro_steps[gradient_buffer][accumulate]; }
    template <class Work> void part(Phase phase, int layer, bool accumulate, Work work) {
        if (in_parts) replay(part_graphs[{(int)phase, layer, phase == FORWARD ? 0 : 2 * (int)gradient_buffer + accumulate}], stream, work);
        else work();
    }

    // body(offset, count, at) for what is owned of n parameters from `offset` on; at: in the buffers of the optimizer's state, or in that of second moments.
    template <class Body> void for_each_owned(size_t offset, size_t n, Body body, bool second = false) const {
        for (const Owned& o : owned) {
            if (second && o.second_moments() == 0) continue;
            const size_t begin = std::max(offset, o.range.begin), end = std::min(offset + n, o.range.end);
            if (begin < end) body(begin, end - begin, (second ? o.v_at : o.at) + (begin - o.range.begin));
        }
    }

    StreamOptions stream_options() const {
        KernelOptions kernels = options.kernels;
        if (options.mask_eot >= 0 || std::is_same_v<F, float>) kernels.attention = AttentionBackend::OURS;  // cuDNN's is bf16 and has no document mask
        return {.workspace = workspace, .workspace_bytes = workspace_bytes(most_tokens(), config.C, widest_output(), config.Vp()), .kernels = kernels, .any_gpu = options.any_gpu};
    }
    size_t N() const { return (size_t)options.B * (size_t)options.T; }
    // of the largest batch: a micro-batch, or one row of an evaluation that is longer than a micro-batch
    size_t most_tokens() const { return std::max(N(), (size_t)std::max(options.eval_T, options.complete_T)); }
    size_t positions() const { return (size_t)std::max({options.T, options.eval_T, options.complete_T}); }  // of the longest row
    int* targets() const { return tokens + most_tokens(); }
    const Block<F>& block(int l) const { return blocks[gradient_buffer * (size_t)config.L + (size_t)l]; }  // what layer l sees
    const Block<F>& tensors() const { return block(0); }              // for those that no layer owns
    // Batches of two steps may wait to be read while the host prepares the next: it waits for the statistics of the step before the last.
    size_t held_batches() const { return 2 * (size_t)options.grad_accum; }
    size_t training_slots() const { return held_batches() + 2; }
    static constexpr size_t VALIDATION_SLOTS = 2;
    size_t classifier_chunk() const { return chunk; }
    size_t snapshot_bytes() const {
        const size_t kinds = 2 + (!std::is_same_v<F, float> && options.master_weights);  // moments and masters
        return options.copy_to_save && options.train ? checkpoint_bytes(parameters, options.rank, options.world, kinds, options.optimizer, sizeof(F)) : 0;
    }
    size_t received_floats() const { return options.reduce == Reduce::LIBRARY ? 0 : partition.most_received(); }
    size_t staging_floats() const { return std::max<size_t>((size_t)config.C * (size_t)widest_output(), 1 << 18); }

private:
    int widest_output() const { return std::max({config.C, config.hidden(), config.QKV()}); }  // of a block's linear layers
    template <class X> void buffer(X*& field, Arena& arena, const char* name, const char* category, size_t n, unsigned live_range, bool apart = false) {
        fields.push_back({&field, &arena, arena.add(name, category, n * sizeof(X), live_range, apart)});
    }
    struct Field { void* pointer; const Arena* arena; size_t buffer; };
    std::vector<Field> fields;  // set by allocate()
    std::vector<Owned> owned_ranges(const ModelOptions& o) const {
        return o.zero ? partition.owned(o.rank) : partition.all();
    }
    std::vector<std::vector<Segment>> segments_of_owned() const {
        std::vector<std::vector<Segment>> lists;
        for (const Owned& o : owned) {
            lists.emplace_back();
            if (o.group == MUON) continue;
            for (const Parameter& p : parameters.all) {
                const size_t begin = std::max(p.offset, o.range.begin), end = std::min(p.offset + p.size(), o.range.end);
                if (begin < end) lists.back().push_back({begin - o.range.begin, end - begin, p.decays ? 1.0f : 0.0f});
            }
        }
        return lists;
    }
    // Each linear layer by itself, though several may lie in one matrix.
    std::vector<MuonGroup> groups_of_owned() const {
        std::vector<MuonGroup> groups;
        for (const Parameter& p : parameters.all)
            for (const Owned& o : owned) {
                if (o.group != MUON || p.offset < o.range.begin || p.offset >= o.range.end) continue;
                CHECK(p.offset + p.size() <= o.range.end, "%s is cut", p.name.c_str());
                size_t first = p.offset;
                for (size_t rows : p.parts) {
                    const size_t state = o.at + (first - o.range.begin);
                    auto group = std::find_if(groups.begin(), groups.end(), [&](const MuonGroup& g) { return g.rows == (int)rows && g.cols == (int)p.cols; });
                    if (group == groups.end()) group = groups.insert(groups.end(), {(int)rows, (int)p.cols, {}});
                    group->matrices.push_back({first, options.zero < 3 ? first : state, options.zero < 2 ? first : state, state});
                    first += rows * p.cols;
                }
            }
        return groups;
    }
    std::vector<MuonMatrix> muon_list() const {
        std::vector<MuonMatrix> all;
        for (const MuonGroup& g : muon_groups) all.insert(all.end(), g.matrices.begin(), g.matrices.end());
        return all;
    }
    std::vector<Segment> segment_list() const {
        std::vector<Segment> all;
        for (const std::vector<Segment>& list : owned_segments) all.insert(all.end(), list.begin(), list.end());
        return all;
    }
    std::vector<Block<F>> blocks;  // (gradient buffers, L)
    size_t gradient_buffer = 0;
    std::map<std::array<int, 3>, graph_t> part_graphs;
    size_t activation_buffers[ACTIVATION_ROWS], activation_stride[ACTIVATION_ROWS], chunk;
};

// ---- in train_gpt2.cu: what generating and evaluating do with a model -----------------------------------------------------

// What a token sees: its row of a batch (B, T), within its document if documents are kept apart; or, when generating, the caches of keys
// and values, to which T tokens at position pos are appended.
struct Attend { int B, T; bool by_document = true, cached = false; int pos = 0; };
template <class F> void forward_trunk(Model<F>& model, const int* tokens, const Attend& how);
template <class F> void classify(Model<F>& model, size_t N, float dloss, bool backward, bool accumulate);
