// train_gpt2.cu: trains GPT-2 and its descendants. One file, two backends:
//     c++  -x c++ train_gpt2.cu -o train_gpt2        a CPU, with nothing but a compiler
//     nvcc        train_gpt2.cu -o train_gpt2cu      NVIDIA GPUs
// Read it from top to bottom: the table of tensors, the model (forward, backward, update), and the training loop.
// F is the type in which weights and activations are stored: float or bf16.
#include <bit>
#include <functional>
#include <memory>
#include <optional>
#include "llmc/arena.h"
#include "llmc/backend.h"
#include "llmc/checkpoint.h"
#include "llmc/comm.h"
#include "llmc/config.h"
#include "llmc/data.h"
#include "llmc/flops.h"
#include "llmc/log.h"
#include "llmc/options.h"
#include "llmc/rng.h"
#include "llmc/run.h"
#include "llmc/sampler.h"
#include "llmc/schedule.h"
#include "llmc/tokenizer.h"

// ---------------------------------------------------------------------------------------------------------------------
// The tensors. One row is one tensor: the row yields its field, its place in memory, its name and layout in files, how it
// begins and whether it decays. BLOCK rows exist once a layer.

enum Layout { AS_IS, TRANSPOSED };  // published GPT-2 files hold matrices (in, out); in memory they are (out, in)
enum Init { NORMAL, RESIDUAL, POSITION, ONE, ZERO };  // N(0, --init-std); that / sqrt(2L) for what adds to the residual
                                                      // stream; N(0, 0.02) always; 1; 0

//       field      name in files           rows   cols  in files    begins    decays
#define PARAMETERS(MODEL, BLOCK) \
    MODEL(wte,      "wte.weight",           Vp,    C,    AS_IS,      NORMAL,   true)  \
    MODEL(wpe,      "wpe.weight",           max_T, C,    AS_IS,      POSITION, true)  \
    BLOCK(ln1w,     "ln_1.weight",          1,     C,    AS_IS,      ONE,      false) \
    BLOCK(ln1b,     "ln_1.bias",            1,     C,    AS_IS,      ZERO,     false) \
    BLOCK(qkvw,     "attn.c_attn.weight",   3 * C, C,    TRANSPOSED, NORMAL,   true)  \
    BLOCK(qkvb,     "attn.c_attn.bias",     1,     3 * C, AS_IS,     ZERO,     false) \
    BLOCK(attprojw, "attn.c_proj.weight",   C,     C,    TRANSPOSED, RESIDUAL, true)  \
    BLOCK(attprojb, "attn.c_proj.bias",     1,     C,    AS_IS,      ZERO,     false) \
    BLOCK(ln2w,     "ln_2.weight",          1,     C,    AS_IS,      ONE,      false) \
    BLOCK(ln2b,     "ln_2.bias",            1,     C,    AS_IS,      ZERO,     false) \
    BLOCK(fcw,      "mlp.c_fc.weight",      4 * C, C,    TRANSPOSED, NORMAL,   true)  \
    BLOCK(fcb,      "mlp.c_fc.bias",        1,     4 * C, AS_IS,     ZERO,     false) \
    BLOCK(fcprojw,  "mlp.c_proj.weight",    C,     4 * C, TRANSPOSED, RESIDUAL, true) \
    BLOCK(fcprojb,  "mlp.c_proj.bias",      1,     C,    AS_IS,      ZERO,     false) \
    MODEL(lnfw,     "ln_f.weight",          1,     C,    AS_IS,      ONE,      false) \
    MODEL(lnfb,     "ln_f.bias",            1,     C,    AS_IS,      ZERO,     false)

// Activations and scratch. copies: L if the backward pass needs each layer's own, 1 if a layer may overwrite the last's.
// Rows whose phases do not meet share memory.
constexpr unsigned STEP = FORWARD | CLASSIFY | BACKWARD | GENERATE;
//      field         type   copies  elements        category       needed in
#define ACTIVATIONS(ROW) \
    ROW(encoded,      F,     1,      N * C,          "activations", STEP) \
    ROW(ln1,          F,     r < 2 ? L : 1, N * C,   "activations", STEP) \
    ROW(ln1_mean,     float, L,      N,              "activations", STEP) \
    ROW(ln1_rstd,     float, L,      N,              "activations", STEP) \
    ROW(qkv,          F,     r < 3 ? L : 1, N * 3 * C, "activations", STEP) \
    ROW(atty,         F,     r < 3 ? L : 1, N * C,   "activations", STEP) \
    ROW(lse,          float, r < 3 ? L : 1, N * NH,  "activations", STEP) /* (B, NH, T) */ \
    ROW(starts,       int,   1,      mask * N,       "activations", FORWARD | CLASSIFY | BACKWARD) /* of documents */ \
    ROW(residual2,    F,     r < 3 ? L : 1, N * C,          "activations", STEP) /* after attention */ \
    ROW(ln2,          F,     r < 2 ? L : 1, N * C,   "activations", STEP) \
    ROW(ln2_mean,     float, L,      N,              "activations", STEP) \
    ROW(ln2_rstd,     float, L,      N,              "activations", STEP) \
    ROW(fch,          F,     r < 3 ? L : 1, N * 4 * C, "activations", STEP) /* before GELU */ \
    ROW(fch_gelu,     F,     r < 1 ? L : 1, N * 4 * C, "activations", STEP) \
    ROW(residual3,    F,     L,      N * C,          "activations", STEP) /* after the MLP */ \
    ROW(lnf,          F,     1,      N * C,          "activations", STEP) \
    ROW(lnf_mean,     float, 1,      N,              "activations", STEP) \
    ROW(lnf_rstd,     float, 1,      N,              "activations", STEP) \
    ROW(branch,       F,     1,      N * C,          "scratch",     r < 3 ? FORWARD | GENERATE : STEP) \
    ROW(logits,       F,     1,      chunk * Vp,     "scratch",     CLASSIFY | GENERATE) \
    ROW(losses,       float, 1,      N,              "scratch",     CLASSIFY) \
    ROW(dlnf,         F,     1,      train * N * C,  "scratch",     CLASSIFY) \
    ROW(dresidual,    F,     1,      train * N * C,  "scratch",     CLASSIFY | BACKWARD) \
    ROW(dln,          F,     1,      train * N * C,  "scratch",     BACKWARD) \
    ROW(dfch,         F,     1,      train * N * 4 * C, "scratch",  BACKWARD_MLP) \
    ROW(datty,        F,     1,      train * N * C,  "scratch",     BACKWARD_ATTENTION) \
    ROW(dqkv,         F,     1,      train * N * 3 * C, "scratch",  BACKWARD_ATTENTION) \
    ROW(dattention,   float, 1,      train * attention_scratch(o.B, o.T, c.C, NH, stream_options()), "scratch", BACKWARD_ATTENTION) \
    ROW(kcache,       F,     L,      T * C,          "generation",  GENERATE) \
    ROW(vcache,       F,     L,      T * C,          "generation",  GENERATE)

enum ParameterRow {
#define NUMBER(field, ...) P_##field,
    PARAMETERS(NUMBER, NUMBER) PARAMETER_ROWS
};
enum ActivationRow {
#undef NUMBER
#define NUMBER(field, ...) A_##field,
    ACTIVATIONS(NUMBER) ACTIVATION_ROWS
#undef NUMBER
};

// Everything a layer sees: its weights, their gradients, its activations. Tensors of the whole model are in every block.
template <class F> struct Block {
#define FIELDS(field, ...) F* field; float* d##field;
    PARAMETERS(FIELDS, FIELDS)
#undef FIELDS
#define FIELD(field, type, ...) type* field;
    ACTIVATIONS(FIELD)
#undef FIELD
};

// One parameter tensor of one layer, as checkpoints and the initialiser see it.
struct Parameter {
    std::string name;
    size_t rows, cols;  // in memory, without the padding of the vocabulary
    Layout layout;
    Init init;
    bool decays;
    size_t offset;      // in elements, from the start of the parameters
    size_t number;      // of its row in the table
    size_t size() const { return rows * cols; }
};

// Each tensor, and each layer's copy of one, begins on a border of 128 bytes: products are then made the same way everywhere.
constexpr size_t on_border(size_t elements) { return (elements + 63) / 64 * 64; }

// The parameters in the order in which they lie in memory and in files, and where each row begins.
struct ParameterList {
    std::vector<Parameter> all;
    size_t first[PARAMETER_ROWS];  // offset of a row's first tensor
    size_t stride[PARAMETER_ROWS]; // from a layer's to the next layer's; 0 for tensors of the whole model
    size_t elements = 0;           // of the flat buffers, with padding

    explicit ParameterList(const Config& c) {
        size_t C = (size_t)c.C, Vp = (size_t)c.Vp(), max_T = (size_t)c.max_T;
        std::vector<Parameter> rows;
        std::vector<char> in_block;
        auto row = [&](bool block, const char* name, size_t r, size_t n, Layout layout, Init init, bool decays) {
            rows.push_back({name, r, n, layout, init, decays, 0, rows.size()});
            in_block.push_back(block);
        };
#define MODEL_ROW(field, ...) row(false, __VA_ARGS__);
#define BLOCK_ROW(field, ...) row(true, __VA_ARGS__);
        PARAMETERS(MODEL_ROW, BLOCK_ROW)
#undef MODEL_ROW
#undef BLOCK_ROW
        auto place = [&](size_t i, const std::string& prefix, size_t layer) {
            Parameter p = rows[i];
            p.name = prefix + p.name, p.offset = elements;
            if (layer == 0) first[i] = elements, stride[i] = 0;
            if (layer == 1) stride[i] = elements - first[i];
            elements += on_border(p.size());
            if (i == P_wte) p.rows = (size_t)c.V;
            all.push_back(p);
        };
        for (size_t i = 0; i < rows.size(); i++) {
            if (!in_block[i]) { place(i, "", 0); continue; }
            size_t end = i;
            while (end < rows.size() && in_block[end]) end++;
            for (int l = 0; l < c.L; l++)
                for (size_t k = i; k < end; k++) place(k, "h." + std::to_string(l) + ".", (size_t)l);
            i = end - 1;
        }
    }
    size_t count() const { size_t n = 0; for (const Parameter& p : all) n += p.size(); return n; }
};

// ---------------------------------------------------------------------------------------------------------------------
// The model

struct ModelOptions {
    int B, T, recompute = 0, grad_accum = 1;
    int shards = 1;  // ranks over which masters and moments are divided
    bool train = true, master_weights = true;
    int mask_eot = -1;  // the token at which documents begin, if attention stays within them; -1: it does not
    bool tf32 = true, gelu_fusion = false, deterministic = true, pdl = true, separate_rows = false;
    AttentionBy attention = AttentionBy::FASTEST;
    bool any_gpu = false;  // a plan for a GPU that is not here
};

template <class F> class Model {
public:
    using Attend = std::function<void(const Block<F>&)>;
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
    Verdict* verdict = nullptr;        // (1) on this step
    History* history = nullptr;        // (1) losses and norms of the last steps
    Segment* segments = nullptr;       // (parameters) of the flat buffers: which of them decay
    char* workspace = nullptr;         // of the stream's kernels
    int* tokens = nullptr;             // (2, B, T) inputs and targets on the device
    // in pinned memory
    Verdict* host_verdict = nullptr;   // of the last step that was reported or waits for it
    History* host_history = nullptr;   // on its way between checkpoints and the device
    double* host_loss_sum = nullptr;   // of a validation batch
    int* host_batches = nullptr;       // (slots, 2, B, T) the data loader's, for training and then for validation
    float* staging = nullptr;          // a tensor on its way between files and the device; behind it, in bf16, room for it rounded
    event_t judged{};                  // host_verdict has arrived, and all batches of its step have been read
    graph_t micro_steps[2]{};          // a step's first micro-batch, and one that accumulates

    // Plans all memory; nothing is allocated before allocate().
    Model(const Config& c, const ModelOptions& o) : config(c), options(o), parameters(c), device(o.separate_rows) {
        const size_t B = (size_t)o.B, T = (size_t)o.T, N = B * T, C = (size_t)c.C, Vp = (size_t)c.Vp(), L = (size_t)c.L;
        const size_t n = parameters.elements, train = o.train, r = (size_t)o.recompute, mask = o.mask_eot >= 0;
        const int NH = c.NH;
        const bool has_master = train && !std::is_same_v<F, float> && o.master_weights;
        // The classifier's chunk. dwte is read and written once a chunk, in fp32: 8 C bytes for 10 of a row's logits, so that few
        // long chunks move less than many that fit in a cache. About as many rows as fit where dfch will be, or 26 M logits, all chunks
        // alike. LOG 23
        const size_t chunks = (N * Vp - 1) / std::max(4 * N * C, (size_t)26 << 20) + 1;
        chunk = std::min(N, ((N - 1) / chunks + 128) / 128 * 128);

        row(params, device, "params", "parameters", n, ALWAYS);
        const size_t shard = (n + (size_t)o.shards - 1) / (size_t)o.shards;
        row(master, device, "master", "master weights", has_master * shard, ALWAYS);
        row(grads, device, "grads", "gradients", train * n, ALWAYS);
        row(m, device, "m", "AdamW moments", train * shard, ALWAYS);
        row(v, device, "v", "AdamW moments", train * shard, ALWAYS);
        row(norm_squared, device, "norm", "scratch", 1, ALWAYS);
        row(loss_sum, device, "loss", "scratch", 1, ALWAYS);
        row(verdict, device, "verdict", "scratch", 1, ALWAYS);
        row(history, device, "history", "scratch", 1, ALWAYS);
        row(segments, device, "segments", "scratch", parameters.all.size(), ALWAYS);
        row(workspace, device, "workspace", "scratch", workspace_bytes(N, c.C, c.Vp()), ALWAYS);
        row(tokens, device, "tokens", "activations", 2 * N, ALWAYS);
#define ADD(field, type, copies, elements, category, phases) \
        activation_stride[A_##field] = (copies) > 1 ? on_border((size_t)(elements)) : 0; \
        activation_rows[A_##field] = device.add(#field, category, ((copies) > 1 ? (copies) * activation_stride[A_##field] : (copies) * (size_t)(elements)) * sizeof(type), phases);
        ACTIVATIONS(ADD)
#undef ADD
        row(host_verdict, pinned, "verdict", "host", 1, ALWAYS);
        row(host_history, pinned, "history", "host", 1, ALWAYS);
        row(host_loss_sum, pinned, "loss", "host", 1, ALWAYS);
        row(host_batches, pinned, "batches", "host", (training_slots() + VALIDATION_SLOTS) * 2 * N, ALWAYS);
        row(staging, pinned, "staging", "host", staging_floats() * (std::is_same_v<F, float> ? 2 : 3) / 2, ALWAYS);
        device.plan();
        pinned.plan();
    }

    void allocate() {
        device.allocate(device_alloc);
        pinned.allocate(pinned_alloc);
        for (const Field& f : fields) {
            void* memory = f.arena->template pointer<char>(f.row);
            memcpy(f.pointer, &memory, sizeof memory);  // a float*, an int*, ...: whatever the field is
        }
        blocks.resize((size_t)config.L);
        for (size_t l = 0; l < blocks.size(); l++) {
            Block<F>& b = blocks[l];
            auto gradient = [&](size_t offset) { return grads ? grads + offset : nullptr; };
#define VIEW(field, ...) \
            b.field = params + parameters.first[P_##field] + l * parameters.stride[P_##field]; \
            b.d##field = gradient(parameters.first[P_##field] + l * parameters.stride[P_##field]);
            PARAMETERS(VIEW, VIEW)
#undef VIEW
#define VIEW(field, type, ...) \
            b.field = device.template pointer<type>(activation_rows[A_##field]); \
            if (b.field) b.field += l * activation_stride[A_##field];
            ACTIVATIONS(VIEW)
#undef VIEW
        }
        stream = open_stream(stream_options());
        judged = make_event();
        std::vector<Segment> list;
        for (const Parameter& p : parameters.all) list.push_back({p.offset, p.size(), p.decays ? 1.0f : 0.0f});
        copy_to_device(segments, list.data(), list.size() * sizeof(Segment), stream);
        synchronize(stream);
    }

    StreamOptions stream_options() const {
        return {.workspace = workspace, .workspace_bytes = workspace_bytes(N(), config.C, config.Vp()), .tf32 = options.tf32, .gelu_fusion = options.gelu_fusion,
                .deterministic = options.deterministic, .pdl = options.pdl, .attention = options.mask_eot >= 0 || std::is_same_v<F, float> ? AttentionBy::OURS : options.attention,
                .any_gpu = options.any_gpu};
    }
    size_t N() const { return (size_t)options.B * (size_t)options.T; }
    const Block<F>& block(int l) const { return blocks[(size_t)l]; }
    // Batches of two steps may wait to be read while the host prepares the next: it waits for the verdict before the last.
    size_t held_batches() const { return 2 * (size_t)options.grad_accum; }
    size_t training_slots() const { return held_batches() + 2; }
    static constexpr size_t VALIDATION_SLOTS = 2;
    size_t classifier_chunk() const { return chunk; }
    size_t staging_floats() const { return std::max<size_t>(4 * (size_t)config.C * (size_t)config.C, 1 << 18); }

private:
    template <class X> void row(X*& field, Arena& arena, const char* name, const char* category, size_t n, unsigned phases) {
        fields.push_back({&field, &arena, arena.add(name, category, n * sizeof(X), phases)});
    }
    struct Field { void* pointer; const Arena* arena; size_t row; };
    std::vector<Field> fields;  // set by allocate()
    std::vector<Block<F>> blocks;
    size_t activation_rows[ACTIVATION_ROWS], activation_stride[ACTIVATION_ROWS], chunk;
};

// ---------------------------------------------------------------------------------------------------------------------
// Forward

// A block up to its MLP's hidden layer: residual, ln1 -> residual2, fch_gelu, and all that the backward pass reads.
template <class F> void forward_block(Model<F>& model, const Block<F>& b, const F* residual, size_t N, const typename Model<F>::Attend& attend) {
    const int C = model.config.C;
    const stream_t stream = model.stream;
    matmul_forward(b.qkv, b.ln1, b.qkvw, b.qkvb, N, C, 3 * C, {}, stream);
    attend(b);
    matmul_forward(b.branch, b.atty, b.attprojw, b.attprojb, N, C, C, {}, stream);
    residual_layernorm_forward(b.residual2, b.ln2, b.ln2_mean, b.ln2_rstd, residual, b.branch, b.ln2w, b.ln2b, N, C, stream);
    matmul_forward(b.fch_gelu, b.ln2, b.fcw, b.fcb, N, C, 4 * C, {.pre_gelu = b.fch}, stream);
}

// The trunk: tokens (B, T) -> lnf (B, T, C). `attend` is attention over the batch itself, or over a cache of keys and
// values when generating; position `pos` is that of the first token of each row.
template <class F> void forward_trunk(Model<F>& model, const int* tokens, int B, int T, int pos, const typename Model<F>::Attend& attend) {
    const int C = model.config.C, L = model.config.L;
    const size_t N = (size_t)B * T;
    const stream_t stream = model.stream;
    const Block<F>& first = model.block(0);

    embedding_forward(first.encoded, tokens, first.wte, first.wpe, B, T, C, pos, stream);
    layernorm_forward(first.ln1, first.ln1_mean, first.ln1_rstd, first.encoded, first.ln1w, first.ln1b, N, C, stream);
    const F* residual = first.encoded;
    for (int l = 0; l < L; l++) {
        const Block<F>& b = model.block(l);
        forward_block(model, b, residual, N, attend);
        matmul_forward(b.branch, b.fch_gelu, b.fcprojw, b.fcprojb, N, 4 * C, C, {}, stream);
        // the sum and the LayerNorm that follows it, which is the next block's first or the model's last
        if (l + 1 < L) {
            const Block<F>& n = model.block(l + 1);
            residual_layernorm_forward(b.residual3, n.ln1, n.ln1_mean, n.ln1_rstd, b.residual2, b.branch, n.ln1w, n.ln1b, N, C, stream);
        } else {
            residual_layernorm_forward(b.residual3, b.lnf, b.lnf_mean, b.lnf_rstd, b.residual2, b.branch, b.lnfw, b.lnfb, N, C, stream);
        }
        residual = b.residual3;
    }
}

// Attention over the batch itself.
template <class F> typename Model<F>::Attend attend_batch(const Model<F>& model) {
    return [&](const Block<F>& b) {
        attention_forward(b.atty, b.lse, b.qkv, b.starts, model.options.B, model.options.T, model.config.C, model.config.NH, model.stream);
    };
}

template <class F> void forward(Model<F>& model) {
    const int B = model.options.B, T = model.options.T;
    if (const Block<F>& b = model.block(0); b.starts) document_starts(b.starts, model.tokens, model.options.mask_eot, B, T, model.stream);
    forward_trunk(model, model.tokens, B, T, 0, attend_batch(model));
}

// The classifier, a chunk of rows at a time, so that the logits of the whole batch never exist: lnf -> losses, and if
// `backward`, dlnf = and dwte = or +=, by way of the logits' gradient, which overwrites the logits. Of the first N rows.
template <class F> void classify(Model<F>& model, size_t N, float dloss, bool backward, bool accumulate) {
    const Block<F>& b = model.block(0);
    const int C = model.config.C, V = model.config.V, Vp = model.config.Vp();
    const int* targets = model.tokens + (size_t)model.options.B * model.options.T;
    for (size_t at = 0; at < N; at += model.classifier_chunk()) {
        size_t n = std::min(model.classifier_chunk(), N - at);
        matmul_forward(b.logits, b.lnf + at * C, b.wte, (const F*)nullptr, n, C, Vp, {}, model.stream);
        fused_classifier(b.logits, b.losses + at, targets + at, dloss, n, V, Vp, backward, model.stream);
        if (!backward) continue;
        matmul_backward_input(b.dlnf + at * C, b.logits, b.wte, n, C, Vp, {}, model.stream);
        matmul_backward_weight(b.dwte, (float*)nullptr, b.logits, b.lnf + at * C, n, C, Vp, accumulate || at > 0, model.stream);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Backward: every weight's gradient = or += (accumulate); the forward, line by line, from its end

template <class F> void backward(Model<F>& model, bool accumulate) {
    const int B = model.options.B, T = model.options.T, recompute = model.options.recompute;
    const int C = model.config.C, NH = model.config.NH, L = model.config.L;
    const size_t N = (size_t)B * T;
    const stream_t stream = model.stream;

    const Block<F>& last = model.block(L - 1);
    layernorm_backward(last.dresidual, last.dlnfw, last.dlnfb, last.dlnf, last.residual3, last.lnf_mean, last.lnf_rstd,
                       last.lnfw, N, C, {.accumulate = accumulate}, stream);
    for (int l = L - 1; l >= 0; l--) {
        const Block<F>& b = model.block(l);
        const F* residual = l == 0 ? b.encoded : model.block(l - 1).residual3;
        const int again = l < L - 1 ? recompute : 0;  // of the last block everything is still there

        if (again == 3) {
            layernorm_forward(b.ln1, b.ln1_mean, b.ln1_rstd, residual, b.ln1w, b.ln1b, N, C, stream);
            forward_block(model, b, residual, N, attend_batch(model));
        }
        if (again == 1 || again == 2) gelu_forward(b.fch_gelu, b.fch, N * 4 * C, stream);
        matmul_backward_weight(b.dfcprojw, b.dfcprojb, b.dresidual, b.fch_gelu, N, 4 * C, C, accumulate, stream);
        matmul_backward_input(b.dfch, b.dresidual, b.fcprojw, N, 4 * C, C, {.pre_gelu = b.fch}, stream);
        if (again == 2) layernorm_forward(b.ln2, b.ln2_mean, b.ln2_rstd, b.residual2, b.ln2w, b.ln2b, N, C, stream);
        matmul_backward_weight(b.dfcw, b.dfcb, b.dfch, b.ln2, N, C, 4 * C, accumulate, stream);
        matmul_backward_input(b.dln, b.dfch, b.fcw, N, C, 4 * C, {}, stream);
        layernorm_backward(b.dresidual, b.dln2w, b.dln2b, b.dln, b.residual2, b.ln2_mean, b.ln2_rstd, b.ln2w, N, C,
                           {.accumulate = accumulate, .add_to_dinp = true}, stream);

        matmul_backward_weight(b.dattprojw, b.dattprojb, b.dresidual, b.atty, N, C, C, accumulate, stream);
        matmul_backward_input(b.datty, b.dresidual, b.attprojw, N, C, C, {}, stream);
        attention_backward(b.dqkv, b.datty, b.atty, b.lse, b.qkv, b.starts, b.dattention, B, T, C, NH, stream);
        if (again == 2) layernorm_forward(b.ln1, b.ln1_mean, b.ln1_rstd, residual, b.ln1w, b.ln1b, N, C, stream);
        matmul_backward_weight(b.dqkvw, b.dqkvb, b.dqkv, b.ln1, N, C, 3 * C, accumulate, stream);
        matmul_backward_input(b.dln, b.dqkv, b.qkvw, N, C, 3 * C, {}, stream);
        layernorm_backward(b.dresidual, b.dln1w, b.dln1b, b.dln, residual, b.ln1_mean, b.ln1_rstd, b.ln1w, N, C,
                           {.accumulate = accumulate, .add_to_dinp = true}, stream);
    }
    const Block<F>& b = model.block(0);
    embedding_backward(b.dwte, b.dwpe, b.dresidual, model.tokens, B, T, C, model.config.max_T, accumulate, stream);
}

// ---------------------------------------------------------------------------------------------------------------------
// A step

// The copies are under way when it returns, and read the batch's memory later.
template <class F> void upload(Model<F>& model, const Batch& batch) {
    const size_t N = model.N();
    copy_to_device(model.tokens, batch.inputs, N * sizeof(int), model.stream);
    copy_to_device(model.tokens + N, batch.targets, N * sizeof(int), model.stream);
}

// Of the batch on the device: gradients and the sum of the losses = or += (accumulate).
template <class F> void micro_step(Model<F>& model, bool accumulate, const Comm& comm) {
    const size_t N = model.N();
    const float dloss = 1.0f / ((float)N * (float)model.options.grad_accum * (float)comm.world);
    forward(model);
    classify(model, N, dloss, true, accumulate);
    sum_losses(model.loss_sum, model.block(0).losses, N, accumulate, model.stream);
    backward(model, accumulate);  // from here on the memory of the losses is used by others
}

// One micro-batch, the first of a step or one that adds to it, and after the last one the gradients' sum over the ranks.
template <class F> void forward_backward(Model<F>& model, const Batch& batch, int micro, const Comm& comm) {
    upload(model, batch);
    replay(model.micro_steps[micro > 0], model.stream, [&] { micro_step(model, micro > 0, comm); });
    if (micro == model.options.grad_accum - 1) comm.reduce_gradients(model.grads, model.parameters.elements);
}

// AdamW with the gradient cut to --grad-clip, unless loss or norm are too odd: decided on the device, which need not wait for
// the host. The verdict is in model.host_verdict when model.judged is reached. Steps count from 0.
template <class F> void update(Model<F>& model, const Options& opt, double lr, int step, const Comm& comm) {
    const stream_t stream = model.stream;
    const size_t n = model.parameters.elements;
    const Limits limits{.grad_clip = opt.grad_clip, .skip_loss_z = opt.skip_loss_z, .skip_grad_z = opt.skip_grad_z};
    global_norm_squared(model.norm_squared, model.grads, n, stream);
    judge_step(model.verdict, model.history, model.loss_sum, model.norm_squared,
               (double)model.N() * model.options.grad_accum * comm.world, limits, stream);
    copy_to_host(model.host_verdict, model.verdict, sizeof(Verdict), stream);
    record(model.judged, stream);
    AdamW hyper{.lr = (float)lr, .beta1 = (float)opt.beta1, .beta2 = (float)opt.beta2, .eps = (float)opt.eps,
                .weight_decay = (float)opt.weight_decay, .t = step + 1, .seed = opt.seed};
    adamw_update(model.params, model.master, model.grads, model.m, model.v, model.segments, (int)model.parameters.all.size(),
                 model.verdict, n, hyper, stream);
}

// The losses and norms against which the next ones are judged.
template <class F> void set_history(Model<F>& model, const History& history) {
    *model.host_history = history;
    copy_to_device(model.history, model.host_history, sizeof(History), model.stream);
    synchronize(model.stream);
}
template <class F> const History& get_history(Model<F>& model) {
    copy_to_host(model.host_history, model.history, sizeof(History), model.stream);
    synchronize(model.stream);
    return *model.host_history;
}

// Losses of a batch without gradients: their sum, and the number of targets that count.
struct LossSum { double loss = 0, targets = 0, bytes = 0; };
template <class F> LossSum batch_loss(Model<F>& model, const Batch& batch, const std::vector<int>& byte_lengths) {
    const size_t N = model.N();
    upload(model, batch);
    forward(model);
    classify(model, N, 0, false, false);
    sum_losses(model.loss_sum, model.block(0).losses, N, false, model.stream);
    copy_to_host(model.host_loss_sum, model.loss_sum, sizeof(double), model.stream);
    synchronize(model.stream);
    LossSum sum{.loss = *model.host_loss_sum};
    for (size_t i = 0; i < N; i++) sum.targets += batch.targets[i] >= 0;
    sum.bytes = (double)count_target_bytes(batch, N, byte_lengths);
    return sum;
}

#include "llmc/chat.h"
#include "llmc/eval.h"
#include "llmc/generate.h"
#include "llmc/model_files.h"

// ---------------------------------------------------------------------------------------------------------------------
// The run

template <class F> void save_checkpoint(Run& run, Model<F>& model, int step, uint64_t position, const Log& log) {
    CheckpointWriter checkpoint(run.out, step);
    Json trainer = Json::object();
    trainer.add("version", VERSION).add("step", step).add("position", position);
    trainer.add("main_log", log.position().main_log).add("metrics", log.position().metrics);
    Json losses = Json::array(), norms = Json::array(), options = Json::object();
    const History& history = get_history(model);
    for (int i = 0; i < history.losses.count; i++) losses.push(history.losses.values[i]), norms.push(history.norms.values[i]);
    for (auto& [name, value] : describe(run.opt)) options.add(name, value);
    trainer.add("losses", losses).add("norms", norms).add("options", options);
    checkpoint.add_text("trainer.json", json_dump(trainer, 2) + "\n");
    checkpoint.add_text("config.json", config_to_json(run.config, run.has_tokenizer ? run.tokenizer.eot() : -1,
                                                      std::is_same_v<F, float> ? "float32" : "bfloat16"));
    if (run.has_tokenizer) checkpoint.add_text("tokenizer.json", run.tokenizer.to_json());
    if (run.has_tokenizer) checkpoint.add_text("tokenizer_config.json", run.tokenizer.config_json());
    save_weights(model, checkpoint, run.prefix);
    if (model.options.train) save_state(model, checkpoint);
    checkpoint.commit();
    prune_checkpoints(run.out, run.opt.keep, run.opt.major, step);
}

// Loss over `batches` batches of the validation data (0: all of it), from its start.
template <class F> void validate(const Run& run, Model<F>& model, DataLoader& data, int step, Log& log) {
    const std::vector<int> lengths = run.has_tokenizer ? run.tokenizer.byte_lengths() : std::vector<int>();
    const uint64_t all = std::max<uint64_t>(data.rows() / ((uint64_t)run.B * run.comm.world), 1);
    const uint64_t batches = run.opt.val_batches ? std::min<uint64_t>(run.opt.val_batches, all) : all;
    data.seek(0);
    LossSum sum;
    for (uint64_t i = 0; i < batches; i++) {
        LossSum batch = batch_loss(model, data.next(), lengths);
        sum.loss += batch.loss, sum.targets += batch.targets, sum.bytes += batch.bytes;
    }
    run.comm.all_reduce_sum(&sum.loss, 1), run.comm.all_reduce_sum(&sum.targets, 1), run.comm.all_reduce_sum(&sum.bytes, 1);
    double bits_per_byte = sum.bytes > 0 ? sum.loss / std::log(2.0) / sum.bytes : NAN;
    log.val(step, sum.loss / sum.targets, bits_per_byte, run.floor);
}

inline std::string why_skipped(const Verdict& v) {
    return v.skip == NOT_FINITE ? "loss or norm is not finite"
                                : format("%s is %.1f deviations above the last 128", v.skip == LOSS_SPIKE ? "loss" : "norm", v.z);
}

// What is about to happen, in a few lines.
template <class F> void print_banner(const Run& run, const Model<F>& model, const std::string& machine, double peak, const char* source) {
    if (run.comm.rank != 0) return;
    const Config& c = run.config;
    const double tokens = (double)run.B * run.T * run.grad_accum * run.opt.nproc;
    printf("model    %d layers, width %d, %d heads, context %d, vocabulary %d: %s parameters, %s\n", c.L, c.C, c.NH, c.max_T,
           c.V, human((double)model.parameters.count()).c_str(), run.opt.precision.c_str());
    if (!run.weights.empty()) printf("weights  %s\n", run.weights.c_str());
    if (!run.train.empty()) printf("data     %s tokens to train on, %s to validate on\n", human((double)count_tokens(run.train)).c_str(),
                                   human((double)count_tokens(run.val)).c_str());
    printf("step     %d x %d tokens x %d micro-batches x %d ranks = %s tokens, %sFLOP\n", run.B, run.T, run.grad_accum,
           run.opt.nproc, human(tokens).c_str(), human(tokens * flops_per_token(c, run.T)).c_str());
    printf("machine  %s, peak %sFLOP/s %s\n", machine.c_str(), human(peak).c_str(), source);
    if (const std::string path = attention_path<F>(model.stream_options()); !path.empty()) printf("attention %s\n", path.c_str());
    if (!run.out.empty()) printf("out      %s\n", run.out.c_str());
    model.device.print("memory of the device");
    model.pinned.print("memory of the host");
    fflush(stdout);
}

template <class F> double data_sheet_flops(const Gpu& gpu, const Options& opt) {
    return 1e12 * (!std::is_same_v<F, float> ? gpu.bf16 : opt.tf32 ? gpu.tf32 : gpu.fp32);
}

// What this machine multiplies at best, all ranks together.
struct Peak { double flops; const char* source; };
template <class F> Peak find_peak(const Options& opt, const Comm& comm) {
    if (const Gpu* gpu = find_gpu_of_device(device_name())) return {comm.world * data_sheet_flops<F>(*gpu, opt), "by its data sheet"};
    return {comm.world * measure_peak_flops<F>(0.05, opt.tf32 != 0), "measured"};
}

template <class F> void train(Run& run, Model<F>& model, Peak machine, const std::vector<EvalSet>& eval_sets) {
    const Options& opt = run.opt;
    const Comm& comm = run.comm;
    const double tokens = (double)run.B * run.T * run.grad_accum * comm.world, flops = tokens * flops_per_token(run.config, run.T);
    const double peak = machine.flops;
    print_banner(run, model, device_name() + ", " + gemm_path<F>(), peak, machine.source);

    std::optional<DataLoader> data, val_data;
    if (!run.train.empty()) data.emplace(run.train, data_options(run, true), model.host_batches, (int)model.training_slots(), (int)model.held_batches()), data->seek(run.position);
    if (!run.val.empty()) val_data.emplace(run.val, data_options(run, false), model.host_batches + model.training_slots() * 2 * model.N(), (int)model.VALIDATION_SLOTS);
    if (run.steps < 0) run.steps = std::max(1, (int)((double)data->rows() * run.T / tokens));
    Log log(run.out, comm.rank == 0, run.log_position);
    log.record(format("{\"run\": %s, \"version\": \"%s\", \"machine\": \"%s\", \"peak_flops_per_s\": %.5g, \"parameters\": %zu, "
                      "\"first_step\": %d}", options_json(opt).c_str(), VERSION, BACKEND, peak, model.parameters.count(), run.first_step));

    // A step is reported when its verdict has arrived: on a GPU that is while the next one runs.
    struct InFlight { int step; double lr; };
    std::optional<InFlight> in_flight;
    int skipped_in_a_row = 0;
    double seconds_a_step = 0;
    Clock::time_point last_report = Clock::now();
    auto report = [&] {
        if (!in_flight) return;
        wait(model.judged);
        const Verdict v = *model.host_verdict;
        const int step = in_flight->step + 1;
        const double seconds = seconds_since(last_report);
        last_report = Clock::now();
        seconds_a_step = seconds_a_step ? 0.9 * seconds_a_step + 0.1 * seconds : seconds;
        log.step({.step = step, .steps = run.steps, .loss = v.loss, .norm = v.norm, .lr = in_flight->lr, .seconds = seconds, .tokens = tokens,
                  .flops = flops, .peak = peak, .seconds_left = seconds_a_step * (run.steps - step)});
        in_flight.reset();
        skipped_in_a_row = v.skip ? skipped_in_a_row + 1 : 0;
        if (v.skip) log.say(format("step %d: update skipped: %s", step, why_skipped(v).c_str()));
        CHECK(skipped_in_a_row < 10, "step %d: 10 updates in a row were skipped: %s; try a lower --lr or an earlier checkpoint",
              step, why_skipped(v).c_str());
    };

    const bool resave = run.steps == 0 && !run.out.empty() && !run.resumed;  // -x 0 -o OUT: what was loaded, as a folder of ours
    for (int step = run.first_step;; step++) {
        const bool last = step >= run.steps, validates = val_data && every(opt.val_every, step, last);
        const bool samples = every(opt.sample_every, step, last) && run.has_tokenizer && (step > 0 || !opt.prompt.empty());
        const bool evaluates = !eval_sets.empty() && (last || (step > 0 && every(opt.val_every, step, last)));
        const bool saves = (step > run.first_step || resave) && opt.checkpoint_every &&
                           (g_interrupted || every(opt.checkpoint_every, step, last));
        // once in a while
        if (last || g_interrupted || validates || samples || evaluates || saves) {
            report();
            if (saves) save_checkpoint(run, model, step, data ? data->position() : 0, log);
            if (g_interrupted) { log.say(format("interrupted after step %d", step)); break; }
            if (validates) validate(run, model, *val_data, step, log);
            if (samples) print_sample(model, run.tokenizer, opt.prompt, opt.sample_tokens, sampler_options(opt), opt.seed, step);
            for (const EvalSet& set : eval_sets)  // completing answers takes long: at the end only
                if (evaluates && (last || !set.greedy))
                    evaluate(model, run.tokenizer, set, step, log, last && !run.out.empty() ? run.out + "/eval_" + set.name + ".jsonl" : "");
            if (last) break;
            last_report = Clock::now();
        }

        // one step: gradients accumulate over the micro-batches, are reduced after the last one, and applied once
        for (int micro = 0; micro < run.grad_accum; micro++) forward_backward(model, data->next(), micro, comm);
        report();  // the step before this one, whose verdict this one's will overwrite
        const double lr = learning_rate(opt.schedule, opt.lr, step, opt.warmup, run.steps, opt.final_lr_frac);
        update(model, opt, lr, step, comm);
        in_flight = {step, lr};
        if (reached(model.judged)) report();
    }
}

// Bytes of the GPU named, or of the device that is here, and those that a plan may take of them.
struct DeviceMemory {
    double all, usable;
    explicit DeviceMemory(const Gpu* gpu) : all(gpu ? gpu->gib * (1 << 30) : (double)device_memory()), usable((1 - (gpu ? GPU_KEPT_FREE : KEPT_FREE)) * all) {}
};

// --plan: memory and time, for this machine or any GPU, without data, and without taking the memory.
template <class F> void print_plan(const Run& run, const Model<F>& model) {
    const Options& opt = run.opt;
    const Gpu* gpu = find_gpu(opt.plan);
    if (!gpu && opt.plan != "here") die_with(EXIT_USAGE, "--plan: '%s' given, must be empty or one of %s", opt.plan.c_str(), gpu_names().c_str());
    double peak = opt.nproc * (gpu ? data_sheet_flops<F>(*gpu, opt) : measure_peak_flops<F>(0.05));
    print_banner(run, model, gpu ? format("%d x %s", opt.nproc, gpu->name) : device_name(), peak, gpu ? "by its data sheet" : "measured");
    double tokens = (double)run.B * run.T * run.grad_accum * opt.nproc, flops = tokens * flops_per_token(run.config, run.T);
    double seconds = flops / (0.5 * peak);
    printf("time     at half the peak: %.3g s a step, %s tokens/s", seconds, human(tokens / seconds).c_str());
    if (run.steps > 0) printf("; %d steps: %s, %sFLOP, %s tokens", run.steps, clock_text(seconds * run.steps).c_str(),
                              human(flops * run.steps).c_str(), human(tokens * run.steps).c_str());
    printf("\n");
    const DeviceMemory memory(gpu);
    if ((double)model.device.bytes() > memory.usable)
        printf("         does not fit: %.1f GiB, the device has %.1f to give\n", (double)model.device.bytes() / (1 << 30), memory.usable / (1 << 30));
}

// The plan for a batch; nothing is allocated. --batch auto: the largest that divides the total batch and fits in memory.
template <class F> std::unique_ptr<Model<F>> plan_model(Run& run) {
    const Options& opt = run.opt;
    const Gpu* gpu = find_gpu(opt.plan);
    const DeviceMemory memory(gpu);
    auto plan = [&](int B) {
        int64_t micro = (int64_t)B * run.T * opt.nproc;
        int grad_accum = opt.total_batch ? (int)std::max<int64_t>(1, opt.total_batch / micro) : 1;
        ModelOptions options{.B = B, .T = run.T, .recompute = opt.recompute, .grad_accum = grad_accum,
                             .shards = opt.zero ? opt.nproc : 1, .train = opt.steps != 0, .master_weights = opt.master_weights != 0,
                             .mask_eot = opt.doc_mask ? end_of_text(run) : -1,
                             .tf32 = opt.tf32 != 0, .gelu_fusion = opt.gelu_fusion > 0, .deterministic = opt.deterministic != 0, .pdl = opt.pdl != 0,
                             .separate_rows = opt.separate_rows != 0,
                             .attention = attention_by(opt), .any_gpu = gpu != nullptr};
        return std::make_unique<Model<F>>(run.config, options);
    };
    if (run.B == 0) {
        int64_t rows = opt.total_batch ? opt.total_batch / run.T / opt.nproc : 512;
        for (int B = 1; B <= rows && B <= 512; B++)
            if (rows % B == 0 && (run.B == 0 || (double)plan(B)->device.bytes() <= 0.9 * memory.all)) run.B = B;
        const std::unique_ptr<Model<F>> chosen = plan(run.B);
        printf("--batch auto: %d sequences, %d times a step; %.1f of %.1f GiB\n", run.B, chosen->options.grad_accum, (double)chosen->device.bytes() / (1 << 30), memory.all / (1 << 30));
    }
    auto model = plan(run.B);
    if (!opt.plan.empty() || (double)model->device.bytes() <= memory.usable) return model;
    for (int recompute = opt.recompute; recompute <= 3; recompute++)
        for (int B = run.B; B >= 1; B /= 2) {
            ModelOptions smaller = model->options;
            smaller.B = B, smaller.recompute = recompute;
            if ((double)Model<F>(run.config, smaller).device.bytes() <= memory.usable)
                die("out of memory: the plan takes %.1f GiB, the device has %.1f to give; --batch %d --recompute %d would fit",
                    (double)model->device.bytes() / (1 << 30), memory.usable / (1 << 30), B, recompute);
        }
    die("out of memory: the plan takes %.1f GiB, the device has %.1f to give, and no batch fits: try a smaller --model or --seq",
        (double)model->device.bytes() / (1 << 30), memory.usable / (1 << 30));
}

template <class F> void run_trainer(Run& run, const std::vector<EvalSet>& eval_sets) {
    const Options& opt = run.opt;
    std::unique_ptr<Model<F>> model = plan_model<F>(run);
    finish_preparing(run);
    if (!opt.plan.empty()) return print_plan(run, *model);
    const Peak peak = opt.chat.empty() ? find_peak<F>(opt, run.comm) : Peak{};  // takes memory of its own for a moment
    model->allocate();
    if (run.weights.empty()) initialize(*model, opt.init_std, opt.seed);
    else if (is_bin_model(run.weights)) load_bin(*model, BinModel(run.weights));
    else run.prefix = load_folder(*model, run.weights);
    if (run.resumed && opt.steps != 0) load_state(*model, run.weights), set_history(*model, run.history);
    // micro-steps of which nothing remains but what kernels and libraries had to load, to find out or to measure; with the weights, as a
    // GPU is slower with numbers than with zeros
    if (opt.steps != 0) rehearse(model->stream, opt.cache, [&] {
        for (int micro = 0; micro < std::min(2, run.grad_accum); micro++) micro_step(*model, micro > 0, run.comm);
    });
    if (!opt.chat.empty()) return chat(*model, run);
    train(run, *model, peak, eval_sets);
    if (!opt.export_bin.empty() && run.comm.rank == 0) save_bin(*model, opt.export_bin);
}

#ifndef LLMC_NO_MAIN  // tests include this file and bring their own
int main(int argc, char** argv) {
    Options opt = parse_options(argc, argv);
    set_chat_options(opt);
    if (!opt.chat.empty()) wait_asleep(argv);
    set_threads(opt.threads);
    catch_signals();
    std::vector<EvalSet> eval_sets = open_eval_sets(opt.eval, opt.hellaswag != 0);
    Run run = prepare(opt);
    check_model(run.config.C, run.config.NH, attention_by(opt));
    if (opt.plan.empty()) for (EvalSet& set : eval_sets) encode_eval_set(set, run.has_tokenizer ? &run.tokenizer : nullptr, run.T, run.config.V);
    if (opt.precision == "bf16") run_trainer<bf16>(run, eval_sets);
    else run_trainer<float>(run, eval_sets);
}
#endif
