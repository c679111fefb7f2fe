// tensors.h: the table of tensors. One row is one tensor: the row yields its field, its place in memory, its name and layout in files, how it
// begins and whether it decays. BLOCK rows exist once a layer. F is the type in which weights and activations are stored: float or bf16.
#pragma once
#include <cstddef>
#include <string>
#include <vector>
#include "../base/arena.h"
#include "config.h"

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

// What --recompute makes again in the backward pass, each level what is below it too: one copy then does for all layers.
enum Recompute { RECOMPUTE_NOTHING, RECOMPUTE_GELU, RECOMPUTE_LAYERNORM, RECOMPUTE_BLOCK };

// Activations and scratch. copies: L if the backward pass needs each layer's own, 1 if a layer may overwrite the last's.
// Buffers whose live ranges do not overlap share memory.
constexpr unsigned STEP = FORWARD | CLASSIFY | BACKWARD | GENERATE;
//      field         type   copies  elements        category       needed in
#define ACTIVATIONS(ROW) \
    ROW(encoded,      F,     1,      N * C,          "activations", STEP) \
    ROW(ln1,          F,     kept_unless(RECOMPUTE_LAYERNORM), N * C,   "activations", STEP) \
    ROW(ln1_mean,     float, L,      N,              "activations", STEP) \
    ROW(ln1_rstd,     float, L,      N,              "activations", STEP) \
    ROW(qkv,          F,     kept_unless(RECOMPUTE_BLOCK), N * 3 * C, "activations", STEP) \
    ROW(atty,         F,     kept_unless(RECOMPUTE_BLOCK), N * C,   "activations", STEP) \
    ROW(lse,          float, kept_unless(RECOMPUTE_BLOCK), N * NH,  "activations", STEP) /* (B, NH, T) */ \
    ROW(starts,       int,   1,      mask * N,       "activations", FORWARD | CLASSIFY | BACKWARD) /* of documents */ \
    ROW(residual2,    F,     kept_unless(RECOMPUTE_BLOCK), N * C,          "activations", STEP) /* after attention */ \
    ROW(ln2,          F,     kept_unless(RECOMPUTE_LAYERNORM), N * C,   "activations", STEP) \
    ROW(ln2_mean,     float, L,      N,              "activations", STEP) \
    ROW(ln2_rstd,     float, L,      N,              "activations", STEP) \
    ROW(fch,          F,     kept_unless(RECOMPUTE_BLOCK), N * 4 * C, "activations", STEP) /* before GELU */ \
    ROW(fch_gelu,     F,     kept_unless(RECOMPUTE_GELU), N * 4 * C, "activations", STEP) \
    ROW(residual3,    F,     L,      N * C,          "activations", STEP) /* after the MLP */ \
    ROW(lnf,          F,     1,      N * C,          "activations", STEP) \
    ROW(lnf_mean,     float, 1,      N,              "activations", STEP) \
    ROW(lnf_rstd,     float, 1,      N,              "activations", STEP) \
    ROW(branch,       F,     1,      N * C,          "scratch",     recomputes(RECOMPUTE_BLOCK) ? STEP : FORWARD | GENERATE) \
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
constexpr size_t align_up(size_t elements) { return (elements + 63) / 64 * 64; }

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
            elements += align_up(p.size());
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
