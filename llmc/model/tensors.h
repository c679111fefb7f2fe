// tensors.h: the table of tensors. One row is one tensor: the row yields its field, its place in memory, its names and layout in files, how it
// begins, which optimizer updates it and whether it decays. BLOCK rows exist once a layer. F is the type in which weights and activations are
// stored: float or bf16.
#pragma once
#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>
#include "../base/arena.h"
#include "../base/heads.h"
#include "config.h"

enum Layout { VECTOR, MATRIX, CONV1D };  // 1-D in files; as in memory; (in, out) in GPT-2's files, which transformers calls Conv1D
enum Init { NORMAL, RESIDUAL, TOKEN, POSITION, ONE, ZERO };  // N(0, --init-std); that / sqrt(2L) for what adds to the residual
                                                             // stream; N(0, --embed-std); N(0, 0.02) always; 1; 0
// Groups with a learning rate of their own where Muon is the optimizer: MUON's it updates itself, the others AdamW: embeddings, a head that is not tied, the
// rest. Where AdamW is the optimizer it updates all alike.
enum Update { ADAMW, EMBED, HEAD, MUON };

// Rows of a matrix in memory. Linear layers of one input lie in one matrix, one behind the other, so that one product does them all.
struct Rows {
    std::vector<size_t> parts;  // rows of each, if there are several
    size_t sum = 0;
    template <class... N> Rows(N... n) : parts{(size_t)n...} { for (size_t part : parts) sum += part; }
};

// names in files: {a,b} are the names of a matrix's parts, each a tensor of its own; "" in a family that has no such tensor
//       field      exists                rows                             cols     layout  begins    updated decays GPT-2              Llama, Qwen3
#define PARAMETERS(MODEL, BLOCK) \
    MODEL(wte,      true,                 Vp,                              C,       MATRIX, TOKEN,    EMBED, true,  "wte.weight",         "embed_tokens.weight") \
    MODEL(wpe,      a.positions == LEARNED, max_T,                         C,       MATRIX, POSITION, EMBED, true,  "wpe.weight",         "") \
    BLOCK(ln1w,     a.norm_weights,       1,                               C,       VECTOR, ONE,      ADAMW, false, "ln_1.weight",        "input_layernorm.weight") \
    BLOCK(ln1b,     a.norm_bias(),        1,                               C,       VECTOR, ZERO,     ADAMW, false, "ln_1.bias",          "") \
    BLOCK(qkvw,     true,                 Rows(NH * HS, NKV * HS, NKV * HS), C,     CONV1D, NORMAL,   MUON,  true,  "attn.c_attn.weight", "self_attn.{q_proj,k_proj,v_proj}.weight") \
    BLOCK(qkvb,     a.bias,               1,                               QKV,     VECTOR, ZERO,     ADAMW, false, "attn.c_attn.bias",   "") \
    BLOCK(qnormw,   a.qk_weights(),       1,                               HS,      VECTOR, ONE,      ADAMW, false, "",                   "self_attn.q_norm.weight") \
    BLOCK(knormw,   a.qk_weights(),       1,                               HS,      VECTOR, ONE,      ADAMW, false, "",                   "self_attn.k_norm.weight") \
    BLOCK(attprojw, true,                 C,                               NH * HS, CONV1D, adds,     MUON,  true,  "attn.c_proj.weight", "self_attn.o_proj.weight") \
    BLOCK(attprojb, a.bias,               1,                               C,       VECTOR, ZERO,     ADAMW, false, "attn.c_proj.bias",   "") \
    BLOCK(ln2w,     a.norm_weights,       1,                               C,       VECTOR, ONE,      ADAMW, false, "ln_2.weight",        "post_attention_layernorm.weight") \
    BLOCK(ln2b,     a.norm_bias(),        1,                               C,       VECTOR, ZERO,     ADAMW, false, "ln_2.bias",          "") \
    BLOCK(fcw,      true,                 gated ? Rows(FF, FF) : Rows(FF), C,       CONV1D, NORMAL,   MUON,  true,  "mlp.c_fc.weight",    "mlp.{gate_proj,up_proj}.weight") \
    BLOCK(fcb,      a.bias,               1,                               FF,      VECTOR, ZERO,     ADAMW, false, "mlp.c_fc.bias",      "") \
    BLOCK(fcprojw,  true,                 C,                               FF,      CONV1D, adds,     MUON,  true,  "mlp.c_proj.weight",  "mlp.down_proj.weight") \
    BLOCK(fcprojb,  a.bias,               1,                               C,       VECTOR, ZERO,     ADAMW, false, "mlp.c_proj.bias",    "") \
    MODEL(lnfw,     a.norm_weights,       1,                               C,       VECTOR, ONE,      ADAMW, false, "ln_f.weight",        "norm.weight") \
    MODEL(lnfb,     a.norm_bias(),        1,                               C,       VECTOR, ZERO,     ADAMW, false, "ln_f.bias",          "") \
    MODEL(headw,    !a.tied,              Vp,                              C,       MATRIX, own_head, HEAD,  true,  "lm_head.weight",     "lm_head.weight")

// What --recompute makes again in the backward pass, each level what is below it too: one copy then does for all layers.
enum Recompute { RECOMPUTE_NOTHING, RECOMPUTE_GELU, RECOMPUTE_LAYERNORM, RECOMPUTE_BLOCK };

// Activations and scratch. copies: L if the backward pass needs each layer's own, 1 if a layer may overwrite the last's.
// Buffers whose live ranges do not overlap share memory. N: tokens of a micro-batch; most: of it or of an evaluation's longest row;
// cached: tokens that the KV caches hold.
constexpr unsigned STEP = FORWARD | CLASSIFY | BACKWARD | GENERATE;
//      field         type   copies  elements        category       needed in
#define ACTIVATIONS(ROW) \
    ROW(encoded,      F,     1,      most * C,          "activations", STEP) \
    ROW(ln1,          F,     kept_unless(RECOMPUTE_LAYERNORM), most * C,   "activations", STEP) \
    ROW(ln1_mean,     float, L,      centered * most, "activations", STEP) \
    ROW(ln1_rstd,     float, L,      most,           "activations", STEP) \
    ROW(qkv,          F,     kept_unless(RECOMPUTE_BLOCK), most * QKV, "activations", STEP) \
    ROW(qkr,          F,     1,      qk_norm * most * QKV, "activations", STEP) /* what attention reads where heads have a norm, whose backward needs qkv; elsewhere qkv itself is rotated */ \
    ROW(atty,         F,     kept_unless(RECOMPUTE_BLOCK), most * NH * HS, "activations", STEP) \
    ROW(lse,          float, kept_unless(RECOMPUTE_BLOCK), most * NH,  "activations", STEP) /* (B, NH, T) */ \
    ROW(starts,       int,   1,      mask * N,       "activations", FORWARD | CLASSIFY | BACKWARD) /* of documents */ \
    ROW(window_starts, int,  1,      windows * most, "activations", STEP) /* where each token's window begins, within its document */ \
    ROW(residual2,    F,     kept_unless(RECOMPUTE_BLOCK), most * C,          "activations", STEP) /* after attention */ \
    ROW(ln2,          F,     kept_unless(RECOMPUTE_LAYERNORM), most * C,   "activations", STEP) \
    ROW(ln2_mean,     float, L,      centered * most, "activations", STEP) \
    ROW(ln2_rstd,     float, L,      most,           "activations", STEP) \
    ROW(fch,          F,     kept_unless(RECOMPUTE_BLOCK), most * hidden, "activations", STEP) /* before the activation; gate and value */ \
    ROW(fch_gelu,     F,     kept_unless(RECOMPUTE_GELU), most * FF, "activations", STEP) /* after it */ \
    ROW(residual3,    F,     L,      most * C,          "activations", STEP) /* after the MLP */ \
    ROW(lnf,          F,     1,      most * C,          "activations", STEP) \
    ROW(lnf_mean,     float, 1,      centered * most, "activations", STEP) \
    ROW(lnf_rstd,     float, 1,      most,           "activations", STEP) \
    ROW(branch,       F,     1,      most * C,          "scratch",     recomputes(RECOMPUTE_BLOCK) ? STEP : FORWARD | GENERATE) \
    ROW(logits,       F,     1,      chunk * Vp,     "scratch",     CLASSIFY | GENERATE) \
    ROW(losses,       float, 1,      most,           "scratch",     CLASSIFY) \
    ROW(dlnf,         F,     1,      train * N * C,  "scratch",     CLASSIFY) \
    ROW(dresidual,    F,     1,      train * N * C,  "scratch",     CLASSIFY | BACKWARD) \
    ROW(dln,          F,     1,      train * N * C,  "scratch",     BACKWARD) \
    ROW(dfch,         F,     1,      train * N * hidden, "scratch",  BACKWARD_MLP) \
    ROW(dgated,       F,     1,      gated * train * N * FF, "scratch",  BACKWARD_MLP) /* of SwiGLU's output */ \
    ROW(datty,        F,     1,      train * N * NH * HS, "scratch",     BACKWARD_ATTENTION) \
    ROW(dqkv,         F,     1,      train * N * QKV, "scratch",  BACKWARD_ATTENTION) \
    ROW(dattention,   float, 1,      train * attention_scratch(o.B, o.T, c.heads(), stream_options()), "scratch", BACKWARD_ATTENTION) \
    ROW(cos_sin,      float, 1,      turned * positions * HS, "rotary positions", ALWAYS) /* rope_table.h */ \
    ROW(kcache,       F,     L,      cached * NKV * HS,         "generation",  GENERATE) \
    ROW(vcache,       F,     L,      cached * NKV * HS,         "generation",  GENERATE)

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
    int window;                                               // of the layer; 0: it has none
    Seen seen(bool by_document = true) const { return window ? Seen(window_starts, window) : by_document ? starts : nullptr; }
    F* attended() const { return qkr ? qkr : qkv; }           // queries, keys and values as attention reads them
    F* head() const { return headw ? headw : wte; }           // of the classifier: wte again if it is tied
    float* dhead() const { return headw ? dheadw : dwte; }
};

// A tensor in a family's files: all of a parameter, or one part of a merged matrix.
struct FileTensor { std::string name; size_t first_row, rows; };

// One parameter tensor of one layer, as checkpoints and the initialiser see it.
struct Parameter {
    std::string name;
    size_t rows, cols;  // in memory, without the padding of the vocabulary
    bool vector;        // 1-D in files
    bool transposed;    // (cols, rows) in files
    Init init;
    Update update;
    bool decays;
    std::vector<FileTensor> files;
    std::vector<size_t> parts;  // rows of each linear layer that lies in it
    ParameterRow row;   // of the table
    uint32_t number;    // of its initial values: as GPT-2's tensors are counted, so that they are the same whichever others exist
    int layer;          // -1: of the whole model
    size_t offset;      // in elements, from the start of the parameters
    size_t size() const { return rows * cols; }
};

// Each tensor, and each layer's copy of one, is aligned to 128 bytes: products are then made the same way everywhere.
constexpr size_t align_up(size_t elements) { return (elements + 63) / 64 * 64; }

// "a.{b,c}.d": "a.b.d" and "a.c.d", of so many rows each; a name without braces: that name, of all rows.
inline std::vector<FileTensor> file_tensors(const std::string& name, const Rows& rows) {
    const size_t open = name.find('{'), close = name.find('}');
    if (open == name.npos) return {{name, 0, rows.sum}};
    std::vector<FileTensor> tensors;
    size_t at = open + 1, first_row = 0;
    for (size_t part : rows.parts) {
        const size_t end = std::min(name.find(',', at), close);
        tensors.push_back({name.substr(0, open) + name.substr(at, end - at) + name.substr(close + 1), first_row, part});
        at = end + 1, first_row += part;
    }
    return tensors;
}

// The parameters in the order in which they lie in memory, and where each row of the table begins.
struct ParameterList {
    static constexpr size_t NONE = (size_t)-1;
    std::vector<Parameter> all;    // those that exist
    size_t first[PARAMETER_ROWS];  // offset of a row's first tensor; NONE if there is none
    size_t stride[PARAMETER_ROWS]; // from a layer's to the next layer's; 0 for tensors of the whole model
    size_t elements = 0;           // of the flat buffers, with padding

    explicit ParameterList(const Config& c) {
        const Arch& a = c.arch;
        const size_t C = (size_t)c.C, Vp = (size_t)c.Vp(), max_T = (size_t)c.max_T, FF = (size_t)c.FF;
        const size_t NH = (size_t)c.NH, NKV = (size_t)c.NKV, HS = (size_t)c.HS, QKV = (size_t)c.QKV();
        const bool gated = a.mlp == SWIGLU;
        const Init adds = a.zero_init ? ZERO : RESIDUAL, own_head = a.zero_init ? ZERO : NORMAL;
        struct Row { bool in_block; size_t size; Parameter parameter; };
        std::vector<Row> table;
        uint32_t counted = 0, in_blocks = 0;  // GPT-2's rows so far; those of a block. Rows that it lacks begin with 0 or 1 and take no number
        const auto row = [&](ParameterRow number, bool in_block, bool exists, const Rows& rows, size_t cols, Layout layout, Init init, Update update, bool decays,
                             const char* gpt2, const char* llama) {
            first[number] = NONE, stride[number] = 0;
            const uint32_t position = counted;
            if (*gpt2) counted++, in_blocks += in_block;
            if (!exists) return;
            const std::string name = a.names == GPT2_NAMES ? gpt2 : llama;
            const bool vocabulary = number == P_wte || number == P_headw;
            table.push_back({in_block, align_up(rows.sum * cols), {name, vocabulary ? (size_t)c.V : rows.sum, cols, layout == VECTOR,
                             layout == CONV1D && a.conv1d, init, update, decays, file_tensors(name, vocabulary ? Rows(c.V) : rows), rows.parts, number, position, -1, 0}});
        };
#define MODEL_ROW(field, ...) row(P_##field, false, __VA_ARGS__);
#define BLOCK_ROW(field, ...) row(P_##field, true, __VA_ARGS__);
        PARAMETERS(MODEL_ROW, BLOCK_ROW)
#undef MODEL_ROW
#undef BLOCK_ROW
        uint32_t blocks = 0;  // before the one that is placed; behind them all, the last one is in the position already
        const auto place = [&](const Row& r, int layer, const std::string& prefix) {
            Parameter p = r.parameter;
            p.name = prefix + p.name, p.layer = layer, p.offset = elements;
            p.number += in_blocks * blocks;
            for (FileTensor& t : p.files) t.name = prefix + t.name;
            if (first[p.row] == NONE) first[p.row] = elements;
            else if (stride[p.row] == 0) stride[p.row] = elements - first[p.row];
            elements += r.size;
            all.push_back(p);
        };
        for (size_t i = 0; i < table.size();) {
            if (!table[i].in_block) { place(table[i++], -1, ""); continue; }
            size_t end = i;
            while (end < table.size() && table[end].in_block) end++;
            for (int l = 0; l < c.L; l++) {
                blocks = (uint32_t)l;
                for (size_t k = i; k < end; k++) place(table[k], l, std::string(a.block) + std::to_string(l) + ".");
            }
            i = end;
        }
    }
    size_t first_of_blocks() const { return std::find_if(all.begin(), all.end(), [](const Parameter& p) { return p.layer == 0; })->offset; }
    const Parameter& of(ParameterRow row) const { return *std::find_if(all.begin(), all.end(), [&](const Parameter& p) { return p.row == row; }); }
    size_t count() const { size_t n = 0; for (const Parameter& p : all) n += p.size(); return n; }
};
