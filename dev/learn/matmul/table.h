// table.h: what the parts of the matrix product's exercise must give, and what comes out of typical mistakes.
#pragma once
#include "../grade.h"

namespace learn {
enum Mistake { NONE, NO_BIAS, BIAS_PER_TERM, LAST_TERM, NOT_TRANSPOSED, FIRST_ROW, LAST_TILE, HALVES_SWAPPED, CORNERS_SWAPPED, K_SWAPPED, WEIGHT_TRANSPOSED, DW_OVERWRITTEN, DB_OVERWRITTEN, DW_TRANSPOSED, DW_LAST, DB_LAST, DB_OF_INP, DINP_ADDED };
// What a layer of C inputs has as outputs here: not C where that could hide that rows and columns were taken for each other.
inline int outputs_of(Size s) { return s.C % 32 ? s.C + 2 : s.C; }
struct Layer { Doubles inp, weight, bias, dout, dweight, dbias; size_t N, C, OC; };
inline Layer layer_of(Trial& t, Size s, size_t OC) {
    const size_t N = (size_t)s.N, C = (size_t)s.C;
    return {t.normal(N * C), t.normal(OC * C), t.normal(OC), t.normal(N * OC), t.normal(OC * C), t.normal(OC), N, C, OC};
}
inline Layer layer_of(Trial& t, Size s) { return layer_of(t, s, (size_t)outputs_of(s)); }
inline Doubles forward_oracle(const Layer& l, Mistake m = NONE) {
    Doubles out(l.N * l.OC);
    for (size_t n = 0; n < l.N; n++)
        for (size_t o = 0; o < l.OC; o++) {
            double sum = m == NO_BIAS ? 0 : m == BIAS_PER_TERM ? l.bias[o] * (double)l.C : l.bias[o];
            const size_t tile = (l.C - 1) / 32 * 32;
            for (size_t c = m == LAST_TERM ? l.C - 1 : m == LAST_TILE ? tile : 0; c < l.C; c++)
                sum += l.inp[(m == FIRST_ROW ? 0 : m == HALVES_SWAPPED || (m == CORNERS_SWAPPED && (n ^ c) & 8) ? (n ^ 8) % l.N : n) * l.C + (m == K_SWAPPED || (m == CORNERS_SWAPPED && (n ^ c) & 8) ? (c ^ 8) % l.C : c)] * l.weight[m == NOT_TRANSPOSED ? (c * l.OC + o) % (l.OC * l.C) : o * l.C + c];
            out[n * l.OC + o] = sum;
        }
    return out;
}
struct Gradients { Doubles dinp, dweight, dbias; };
inline Gradients backward_oracle(const Layer& l, Mistake m = NONE) {
    const size_t N = l.N, C = l.C, OC = l.OC;
    Gradients g{Doubles(N * C), l.dweight, l.dbias};
    for (size_t n = 0; n < N; n++)
        for (size_t c = 0; c < C; c++)
            for (size_t o = 0; o < OC; o++) g.dinp[n * C + c] = (m == LAST_TERM ? 0 : g.dinp[n * C + c]) + l.dout[n * OC + o] * l.weight[m == WEIGHT_TRANSPOSED ? c * OC + o : o * C + c];
    for (size_t o = 0; o < OC; o++)
        for (size_t n = 0; n < N; n++) {
            for (size_t c = 0; c < C; c++) {
                double& dw = g.dweight[m == DW_TRANSPOSED ? c * OC + o : o * C + c];
                dw = ((m == DW_OVERWRITTEN && n == 0) || m == DW_LAST ? 0 : dw) + l.dout[n * OC + o] * l.inp[n * C + c];
            }
            g.dbias[o] = ((m == DB_OVERWRITTEN && n == 0) || m == DB_LAST ? 0 : g.dbias[o]) + (m == DB_OF_INP ? l.inp[n * C + o % C] : 1) * l.dout[n * OC + o];
        }
    return g;
}
// A sum of n products of floats, and one more number, is wrong by n + 4 roundings of the sum of their sizes at most.
inline double bound_of(const Doubles& a, const Doubles& b, size_t n) {
    double most_a = 1, most_b = 1;
    for (double x : a) most_a = std::fmax(most_a, std::fabs(x));
    for (double x : b) most_b = std::fmax(most_b, std::fabs(x));
    return (double)(n + 4) * 0x1p-24 * ((double)n * most_a * most_b + most_a);
}

// ---- the parts -------------------------------------------------------------------------------------------------------------
using Forward = void (*)(float*, const float*, const float*, const float*, int, int, int, stream_t);
inline void forward_on_host(float* out, const float* inp, const float* weight, const float* bias, int N, int C, int OC, stream_t) { forward_cpp(out, inp, weight, bias, N, C, OC); }
inline void grade_layer(Trial& t, Size s, const Layer& l, Forward forward) {
    float* out = t.result("out", l.N * l.OC, (int)l.OC);
    const float *inp = t.given("inp", l.inp, s.C), *weight = t.given("weight", l.weight, s.C), *bias = t.given("bias", l.bias);
    t.run([&] { forward(out, inp, weight, bias, s.N, s.C, (int)l.OC, t.stream); });
    auto with = [&](Mistake m) { return t.wants(m) ? forward_oracle(l, m) : Doubles(); };
    t.expect("out", with(NONE), bound_of(l.inp, l.weight, l.C), {{"bias is not added", with(NO_BIAS)}, {"bias is added once for each c, not once", with(BIAS_PER_TERM)}, {"each term overwrites those before it", with(LAST_TERM)},
             {"weight is read as (C, OC): its row o begins at o * C", with(NOT_TRANSPOSED)}, {"every row is the first: inp + n * C", with(FIRST_ROW)}, {"the sum begins anew with each tile", with(LAST_TILE)}, {"rows g and g + 8 are taken for each other", with(HALVES_SWAPPED)}, {"a[1] and a[2] are exchanged: a[1] is row g + 8", with(CORNERS_SWAPPED)}, {"b[0] and b[1] are exchanged, or a[0], a[1] and a[2], a[3]", with(K_SWAPPED)}});
}
template <Forward forward> void grade_forward(Trial& t, Size s) { grade_layer(t, s, layer_of(t, s), forward); }
// Values that bf16 holds, so that what a tensor core multiplies is exact.
inline void grade_mma(Trial& t, Size s) {
    Layer l = layer_of(t, s, (size_t)s.C + 8);
    for (Doubles* x : {&l.inp, &l.weight}) for (double& e : *x) e = std::bit_cast<float>(std::bit_cast<uint32_t>((float)e) & 0xffff0000);
    grade_layer(t, s, l, forward_mma);
}
inline void expect_dinp(Trial& t, const Layer& l) {
    auto with = [&](Mistake m) { return t.wants(m) ? backward_oracle(l, m).dinp : Doubles(); };
    t.expect("dinp", with(NONE), bound_of(l.dout, l.weight, l.OC), {{"weight is read as (C, OC): its row o begins at o * C", with(WEIGHT_TRANSPOSED)}, {"each term overwrites those before it", with(LAST_TERM)}});
}
inline void grade_backward(Trial& t, Size s) {
    const Layer l = layer_of(t, s);
    float *dinp = t.result("dinp", l.N * l.C, s.C), *dweight = t.changed("dweight", l.dweight, s.C), *dbias = t.changed("dbias", l.dbias);
    const float *dout = t.given("dout", l.dout, (int)l.OC), *inp = t.given("inp", l.inp, s.C), *weight = t.given("weight", l.weight, s.C);
    t.run([&] { backward_cpp(dinp, dweight, dbias, dout, inp, weight, s.N, s.C, (int)l.OC); });
    expect_dinp(t, l);
    auto with = [&](Mistake m) { return backward_oracle(l, m); };
    const Gradients right = with(NONE);
    t.expect("dweight", right.dweight, bound_of(l.dout, l.inp, l.N), {{"dweight is overwritten: it is +=, other micro-batches have added to it", with(DW_OVERWRITTEN).dweight}, {"each row of the batch overwrites what the rows before it have added", with(DW_LAST).dweight},
             {"dweight is written as (C, OC): its row o begins at o * C", with(DW_TRANSPOSED).dweight}});
    t.expect("dbias", right.dbias, bound_of(l.dout, l.inp, l.N), {{"dbias is overwritten: it is +=, other micro-batches have added to it", with(DB_OVERWRITTEN).dbias}, {"each row of the batch overwrites what the rows before it have added", with(DB_LAST).dbias},
             {"dout is multiplied by inp: bias is multiplied by nothing", with(DB_OF_INP).dbias}});
}
inline void grade_dinp(Trial& t, Size s) {
    const Layer l = layer_of(t, s);
    float* dinp = t.result("dinp", l.N * l.C, s.C);
    const float *dout = t.given("dout", l.dout, (int)l.OC), *weight = t.given("weight", l.weight, s.C);
    t.run([&] { dinp_cuda(dinp, dout, weight, s.N, s.C, (int)l.OC, t.stream); });
    expect_dinp(t, l);
}

inline const std::vector<Size> SIZES = {{3, 5}, {1, 1}, {37, 35}, {64, 64}};
constexpr Timed LARGE = {{1024, 1024}, 2.0 * 1024 * 1024 * 1024};  // OC = C
inline const std::vector<Part> PARTS = {
    {grade_forward<forward_on_host>, SIZES},
    {grade_backward, SIZES},
    {grade_forward<forward_naive>, SIZES, true, {.launches = 1}, LARGE},
    {grade_dinp, SIZES, true, {.sectors = 1.1, .launches = 1}, LARGE},
    {grade_forward<forward_tile>, SIZES, true, {.asked = 3.5, .touched = 1.05, .sectors = 1.1, .launches = 1, .no_conflicts = true}, LARGE},
    {grade_forward<forward_register>, {{3, 5}, {1, 1}, {70, 33}, {64, 64}}, true, {.asked = 1.5, .touched = 1.05, .sectors = 1.1, .launches = 1, .no_conflicts = true}, LARGE},
    {grade_mma, {{16, 16}, {16, 48}, {80, 32}, {64, 64}}, true, {.asked = 1.7, .touched = 1.05, .sectors = 2.1, .launches = 1}, {{1024, 1024}, 2.0 * 1024 * 1024 * 1032, BF16}},
};
}  // namespace learn
