// table.h: what the parts of the block's exercise must give, and what comes out of typical mistakes. The oracle is the same layers in double; it is checked by central differences.
#pragma once
#include "../grade.h"

namespace learn {
constexpr int L = 3;
enum Mistake { NONE, NO_SKIP, NO_GELU, NORM_OF_FIRST, MLP_OF_RESIDUAL, SUM_OF_FIRST, LOST_MLP, LOST_ATTENTION, NO_GELU_BACKWARD, NO_SKIP_MLP, NO_SKIP_ATTENTION, NORM_INP, GELU_OF_GELU, WEIGHT_OF_FCH, ATTENTION_FIRST, OVERWRITTEN, FORWARD_ORDER, ENCODED_FOR_ALL, OWN_OUTPUT, ALL_BUT_FIRST, NOT_RECOMPUTED };

// The parameters of a block, one behind the other: sizes in the order of Tensors.
constexpr int TENSORS = 12, ACTIVATIONS = 12;
inline const char* const NAMES[TENSORS] = {"dln1w", "dln1b", "dqkvw", "dqkvb", "dattprojw", "dattprojb", "dln2w", "dln2b", "dfcw", "dfcb", "dfcprojw", "dfcprojb"};
inline std::vector<size_t> sizes_of(size_t C) { return {C, C, 3 * C * C, 3 * C, C * C, C, C, C, 4 * C * C, 4 * C, 4 * C * C, C}; }
inline std::vector<size_t> activations_of(size_t T, size_t C) { return {T * C, T, T, 3 * T * C, T * C, T * C, T * C, T, T, 4 * T * C, 4 * T * C, T * C}; }
inline size_t sum_of(const std::vector<size_t>& sizes) { size_t sum = 0; for (size_t n : sizes) sum += n; return sum; }
// Pointers into flat memory, as the structs of the exercise have them.
template <class S, class X> S fields_of(X* flat, const std::vector<size_t>& sizes) {
    S s;
    X** field = (X**)&s;
    static_assert(sizeof(S) == TENSORS * sizeof(X*));
    for (size_t i = 0; i < sizes.size(); i++) field[i] = flat, flat += sizes[i];
    return s;
}
template <class X> std::vector<X*> places(X* flat, const std::vector<size_t>& sizes) {
    std::vector<X*> p;
    for (size_t n : sizes) p.push_back(flat), flat += n;
    return p;
}

// One block: activations from what goes in.
inline Doubles forward_oracle(const Doubles& in, const double* weights, int T, int C, Mistake m = NONE) {
    Doubles all(sum_of(activations_of((size_t)T, (size_t)C))), branch((size_t)(T * C));
    const auto w = places(weights, sizes_of((size_t)C));
    const auto a = places(all.data(), activations_of((size_t)T, (size_t)C));
    norm_forward(a[0], a[1], a[2], in.data(), w[0], w[1], T, C);
    linear_forward(a[3], a[0], w[2], w[3], T, C, 3 * C);
    attention_forward(a[4], a[3], T, C);
    linear_forward(branch.data(), a[4], w[4], w[5], T, C, C);
    const Doubles zeros((size_t)(T * C));
    add(a[5], m == NO_SKIP ? zeros.data() : in.data(), branch.data(), T * C);
    norm_forward(a[6], a[7], a[8], m == MLP_OF_RESIDUAL ? in.data() : a[5], m == NORM_OF_FIRST ? w[0] : w[6], m == NORM_OF_FIRST ? w[1] : w[7], T, C);
    linear_forward(a[9], a[6], w[8], w[9], T, C, 4 * C);
    gelu_forward(a[10], a[9], T * 4 * C);
    linear_forward(branch.data(), m == NO_GELU ? a[9] : a[10], w[10], w[11], T, 4 * C, C);
    add(a[11], m == NO_SKIP ? zeros.data() : m == MLP_OF_RESIDUAL || m == SUM_OF_FIRST ? in.data() : a[5], branch.data(), T * C);
    return all;
}
inline Doubles out_of(const Doubles& activations, int T, int C) { return Doubles(activations.end() - T * C, activations.end()); }
// dresidual in place, gradients +=
inline void backward_oracle(Doubles& d, double* grads, const Doubles& in, const Doubles& activations, const double* weights, int T, int C, Mistake m = NONE) {
    const size_t TC = (size_t)(T * C);
    Doubles dfch(4 * TC), dln(TC), datty(TC), dqkv(3 * TC), lost(TC), fresh(sum_of(sizes_of((size_t)C)));
    const auto w = places(weights, sizes_of((size_t)C));
    const auto g = places(grads, sizes_of((size_t)C));
    const auto a = places(activations.data(), activations_of((size_t)T, (size_t)C));
    if (m == OVERWRITTEN) std::fill(grads, grads + fresh.size(), 0.0);
    auto mlp = [&] {
        linear_backward(dfch.data(), g[10], g[11], d.data(), m == WEIGHT_OF_FCH ? a[9] : a[10], w[10], T, 4 * C, C);
        if (m != NO_GELU_BACKWARD) gelu_backward(dfch.data(), dfch.data(), m == GELU_OF_GELU ? a[10] : a[9], T * 4 * C);
        linear_backward(dln.data(), g[8], g[9], dfch.data(), a[6], w[8], T, C, 4 * C);
        if (m == NO_SKIP_MLP) std::fill(d.begin(), d.end(), 0.0);
        norm_backward(m == LOST_MLP ? lost.data() : d.data(), g[6], g[7], dln.data(), m == NORM_INP ? in.data() : a[5], a[7], a[8], w[6], T, C);
    };
    auto attention = [&] {
        linear_backward(datty.data(), g[4], g[5], d.data(), a[4], w[4], T, C, C);
        attention_backward(dqkv.data(), datty.data(), a[3], T, C);
        linear_backward(dln.data(), g[2], g[3], dqkv.data(), a[0], w[2], T, C, 3 * C);
        if (m == NO_SKIP_ATTENTION) std::fill(d.begin(), d.end(), 0.0);
        norm_backward(m == LOST_ATTENTION ? lost.data() : d.data(), g[0], g[1], dln.data(), in.data(), a[1], a[2], w[0], T, C);
    };
    if (m == ATTENTION_FIRST) attention(), mlp(); else mlp(), attention();
}

struct Case { Doubles in, weights, dout, grads; };  // of one block or of L; grads: what is there already
inline Case case_of(Trial& t, Size s, int blocks) {
    const size_t TC = (size_t)s.N * (size_t)s.C, n = sum_of(sizes_of((size_t)s.C)) * (size_t)blocks;
    Case c{t.normal(TC), t.normal(n, 0, 0.4), t.normal(TC), t.normal(n)};
    const auto sizes = sizes_of((size_t)s.C);
    for (int l = 0; l < blocks; l++)  // LayerNorm's weights are near 1
        for (size_t i = 0, at = (size_t)l * (n / (size_t)blocks); i < sizes.size(); at += sizes[i++])
            if (i == 0 || i == 6) for (size_t k = 0; k < sizes[i]; k++) c.weights[at + k] = (float)(1 + c.weights[at + k] / 2);
    return c;
}
struct Outcome { Doubles din, grads, kept; std::vector<Doubles> activations; };
inline Outcome trunk_oracle(const Case& c, Size s, int blocks, Mistake m = NONE) {
    const size_t n = c.weights.size() / (size_t)blocks;
    Outcome o{c.dout, c.grads, {}, {}};
    std::vector<Doubles> in = {c.in};
    for (int l = 0; l < blocks; l++) o.activations.push_back(forward_oracle(in.back(), &c.weights[(size_t)l * n], s.N, s.C)), in.push_back(out_of(o.activations.back(), s.N, s.C));
    for (int l = 0; l < blocks; l++) o.kept.insert(o.kept.end(), in[(size_t)l].begin(), in[(size_t)l].end());
    for (int i = 0; i < blocks; i++) {
        const size_t l = (size_t)(m == FORWARD_ORDER ? i : blocks - 1 - i);
        if (m == ALL_BUT_FIRST && l == 0) continue;
        backward_oracle(o.din, &o.grads[l * n], in[m == ENCODED_FOR_ALL ? 0 : m == OWN_OUTPUT ? l + 1 : l], o.activations[m == NOT_RECOMPUTED ? (size_t)blocks - 1 : l], &c.weights[l * n], s.N, s.C, m);
    }
    return o;
}
// Some numbers of the oracle's gradients against central differences of the sum of out * dout, wrong by about h^2.
inline void check_oracle(const Case& c, Size s) {
    const Outcome o = trunk_oracle(c, s, 1);
    Case moved = c;
    auto slope = [&](double& x) {
        const double h = 1e-5, x0 = x;
        double loss[2];
        for (int side = 0; side < 2; side++) {
            x = x0 + (side ? h : -h), loss[side] = 0;
            const Doubles out = out_of(forward_oracle(moved.in, moved.weights.data(), s.N, s.C), s.N, s.C);
            for (size_t i = 0; i < out.size(); i++) loss[side] += out[i] * c.dout[i];
        }
        x = x0;
        return (loss[1] - loss[0]) / (2 * h);
    };
    for (size_t i = 0; i < c.in.size(); i += 3) CHECK(std::fabs(slope(moved.in[i]) - o.din[i]) < 1e-6, "table.h: the oracle's din[%zu] is %.9g, by differences %.9g", i, o.din[i], slope(moved.in[i]));
    for (size_t i = 0; i < c.weights.size(); i += 7) CHECK(std::fabs(slope(moved.weights[i]) - (o.grads[i] - c.grads[i])) < 1e-6, "table.h: the oracle's gradient %zu is %.9g, by differences %.9g", i, o.grads[i] - c.grads[i], slope(moved.weights[i]));
}
// A block is some 12 layers, each with sums of at most 4C terms: 12 * 4C roundings of numbers of the largest one's size, in each block.
inline double bound_of(const Doubles& of, Size s, int blocks) {
    double largest = 1;
    for (double x : of) largest = std::fmax(largest, std::fabs(x));
    return largest * 0x1p-24 * 12 * 4 * s.C * blocks;
}

inline Scratch scratch_of(Trial& t, Size s) {
    float* p = t.scratch("scratch", (size_t)(10 * s.N * s.C));
    const size_t TC = (size_t)(s.N * s.C);
    return {p, p + TC, p + 2 * TC, p + 3 * TC, p + 6 * TC};
}
inline void grade_forward(Trial& t, Size s) {
    const Case c = case_of(t, s, 1);
    const char* names[ACTIVATIONS] = {"ln1", "ln1_mean", "ln1_rstd", "qkv", "atty", "residual2", "ln2", "ln2_mean", "ln2_rstd", "fch", "fch_gelu", "residual3"};
    const auto sizes = activations_of((size_t)s.N, (size_t)s.C);
    Activations a;
    for (int i = 0; i < ACTIVATIONS; i++) ((float**)&a)[i] = t.result(names[i], sizes[(size_t)i], (int)(sizes[(size_t)i] / (size_t)s.N > 1 ? sizes[(size_t)i] / (size_t)s.N : 0));
    const float *residual = t.given("residual", c.in, s.C), *weights = t.given("weights", c.weights);
    const Scratch scratch = scratch_of(t, s);
    t.run([&] { block_forward(a, scratch, residual, fields_of<Weights>(weights, sizes_of((size_t)s.C)), s.N, s.C); });
    auto with = [&](Mistake m, int i) {
        const Doubles all = forward_oracle(c.in, c.weights.data(), s.N, s.C, m);
        size_t at = 0;
        for (int k = 0; k < i; k++) at += sizes[(size_t)k];
        return Doubles(all.begin() + (long)at, all.begin() + (long)(at + sizes[(size_t)i]));
    };
    for (int i = 0; i < ACTIVATIONS; i++) {
        const Doubles right = with(NONE, i);
        t.expect(names[i], right, bound_of(right, s, 1), {{"the residual is not added", with(NO_SKIP, i)}, {"GELU is left out: linear reads fch, not fch_gelu", with(NO_GELU, i)}, {"LayerNorm has ln1's weights, not ln2's", with(NORM_OF_FIRST, i)},
                 {"the MLP reads residual, not residual2", with(MLP_OF_RESIDUAL, i)}, {"the MLP's branch is added to residual, not to residual2", with(SUM_OF_FIRST, i)}});
    }
}
inline std::vector<Cause> causes_of(const Case& c, Size s, int blocks, auto part) {
    std::vector<Cause> causes;
    auto cause = [&](Mistake m, const char* what) { causes.push_back({what, part(trunk_oracle(c, s, blocks, m))}); };
    cause(NO_SKIP_MLP, "the MLP's sum has two terms: dresidual goes on beside the MLP, too, it is not overwritten");
    cause(NO_SKIP_ATTENTION, "attention's sum has two terms: dresidual goes on beside attention, too, it is not overwritten");
    cause(LOST_MLP, "what comes back through the MLP is not added to dresidual");
    cause(LOST_ATTENTION, "what comes back through attention is not added to dresidual");
    cause(NORM_INP, "the second LayerNorm's input is residual2, not residual");
    cause(NO_GELU_BACKWARD, "gelu_backward is missing: what the last linear layer gives is the gradient of fch_gelu, not of fch");
    cause(GELU_OF_GELU, "gelu_backward needs GELU's input fch, not its output");
    cause(WEIGHT_OF_FCH, "the input of the last linear layer is fch_gelu, not fch");
    cause(ATTENTION_FIRST, "attention's backward comes before the MLP's: the backward runs from the end");
    cause(OVERWRITTEN, "the weights' gradients are set to 0 first: they are +=");
    if (blocks > 1) {
        cause(FORWARD_ORDER, "the blocks' backwards run from the first to the last");
        cause(ENCODED_FOR_ALL, "all blocks get encoded as their input: block l has read residual3 of block l - 1");
        cause(OWN_OUTPUT, "a block gets its own residual3 as its input: block l has read that of block l - 1");
        cause(ALL_BUT_FIRST, "block 0 is left out");
        cause(NOT_RECOMPUTED, "the activations are the last block's for all: each block's must be made again");
    }
    causes.push_back({"nothing was done", part(Outcome{c.dout, c.grads, {}, {}})});
    return causes;
}
inline void grade_backward(Trial& t, Size s) {
    const Case c = case_of(t, s, 1);
    check_oracle(c, s);
    const Outcome right = trunk_oracle(c, s, 1);
    const auto sizes = sizes_of((size_t)s.C);
    float* dresidual = t.changed("dresidual", c.dout, s.C);
    Gradients g;
    auto cut = [&](const Doubles& flat, int i) {
        size_t at = 0;
        for (int k = 0; k < i; k++) at += sizes[(size_t)k];
        return Doubles(flat.begin() + (long)at, flat.begin() + (long)(at + sizes[(size_t)i]));
    };
    for (int i = 0; i < TENSORS; i++) ((float**)&g)[i] = t.changed(NAMES[i], cut(c.grads, i));
    const float *residual = t.given("residual", c.in, s.C), *weights = t.given("weights", c.weights), *kept = t.given("activations", right.activations[0]);
    const Scratch scratch = scratch_of(t, s);
    t.run([&] { block_backward(dresidual, g, scratch, residual, fields_of<Activations>((float*)kept, activations_of((size_t)s.N, (size_t)s.C)), fields_of<Weights>(weights, sizes), s.N, s.C); });
    for (int i = TENSORS - 1; i >= 0; i--) {  // from the end, as they are made
        const Doubles expected = cut(right.grads, i);
        t.expect(NAMES[i], expected, bound_of(expected, s, 1), causes_of(c, s, 1, [&](const Outcome& o) { return cut(o.grads, i); }));
    }
    t.expect("dresidual", right.din, bound_of(right.din, s, 1), causes_of(c, s, 1, [](const Outcome& o) { return o.din; }));
}

template <bool LEAN> void grade_trunk(Trial& t, Size s) {
    const Case c = case_of(t, s, L);
    const Outcome right = trunk_oracle(c, s, L);
    const size_t n = c.weights.size() / L;
    const auto sizes = sizes_of((size_t)s.C), kinds = activations_of((size_t)s.N, (size_t)s.C);
    float *dresidual = t.changed("dresidual", c.dout, s.C), *grads = t.changed("grads", c.grads, (int)n), *kept = t.result("kept", LEAN ? right.kept.size() : 1, s.C), *memory = t.scratch("activations", sum_of(kinds) * (LEAN ? 1 : L));
    const float *encoded = t.given("encoded", c.in, s.C), *flat = t.given("weights", c.weights);
    const Scratch scratch = scratch_of(t, s);
    std::vector<Weights> w;
    std::vector<Gradients> g;
    std::vector<Activations> a;
    for (size_t l = 0; l < L; l++) w.push_back(fields_of<Weights>(flat + l * n, sizes)), g.push_back(fields_of<Gradients>(grads + l * n, sizes)), a.push_back(fields_of<Activations>(memory + (LEAN ? 0 : l * sum_of(kinds)), kinds));
    t.run([&] {
        if constexpr (LEAN) lean_forward(kept, a[0], scratch, encoded, w.data(), L, s.N, s.C), lean_backward(dresidual, g.data(), scratch, kept, a[0], w.data(), L, s.N, s.C);
        else trunk_forward(a.data(), scratch, encoded, w.data(), L, s.N, s.C), trunk_backward(dresidual, g.data(), scratch, encoded, a.data(), w.data(), L, s.N, s.C);
    });
    if (LEAN) {
        Doubles encoded_for_all;
        for (int l = 0; l < L; l++) encoded_for_all.insert(encoded_for_all.end(), c.in.begin(), c.in.end());
        t.expect("kept", right.kept, bound_of(right.kept, s, L), {{"all blocks get encoded as their input", encoded_for_all}});
    }
    t.expect("grads", right.grads, bound_of(right.grads, s, L), causes_of(c, s, L, [](const Outcome& o) { return o.grads; }));
    t.expect("dresidual", right.din, bound_of(right.din, s, L), causes_of(c, s, L, [](const Outcome& o) { return o.din; }));
}

inline const std::vector<Part> PARTS = {{grade_forward, {{5, 4}, {1, 6}}}, {grade_backward, {{5, 4}, {1, 6}}}, {grade_trunk<false>, {{5, 4}, {1, 6}}}, {grade_trunk<true>, {{5, 4}, {1, 6}}}};
}  // namespace learn
