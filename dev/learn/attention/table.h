// table.h: what the parts of attention's exercise must give, and what comes out of typical mistakes.
#pragma once
#include "../grade.h"

namespace learn {
// ---- the oracle, in double; with a mistake in it, if one is named --------------------------------------------------------
enum Mistake {
    NONE, NO_SCALE, SCALE_HS, NO_MASK, STRICT_MASK, NOT_DIVIDED, O_NOT_RESCALED, SUM_NOT_RESCALED, NOTHING_RESCALED, KEYS_FOR_VALUES, NO_MAX_IN_LSE, NO_LOG, LAST_KEY, MAX_NOT_KEPT, MASK_BLOCK, MASK_BLOCK_SUM, SUM_OF_LANE,
    NO_DELTA, DELTA_ADDED, DELTA_NO_P, NO_P_IN_DS, NO_SCALE_DQ, NO_SCALE_DK, DQ_OF_Q, DK_OF_K, DV_OF_DS, P_NOT_NORMALISED, DK_LAST, DV_LAST, DQ_LAST, ALL_QUERIES, LATER_QUERIES, P_NO_SCALE, LSE_OF_KEY, DELTA_OF_KEY, DELTA_DOUT_Q, DELTA_OUT_Q,
};
struct Head { Doubles q, k, v; size_t T, HS; };
struct Attention { Doubles out, lse, probs; };
// Row i of a . row k of b, of which they have HS elements.
inline double dot_of(const Doubles& a, size_t i, const Doubles& b, size_t k, size_t HS) {
    double sum = 0;
    for (size_t d = 0; d < HS; d++) sum += a[i * HS + d] * b[k * HS + d];
    return sum;
}
// DK_LAST and the like: each pair overwrites what the pairs before it have added.
inline Attention forward_oracle(const Head& x, Mistake m = NONE, size_t tile = 1) {
    const size_t T = x.T, HS = x.HS;
    Attention y{Doubles(T * HS), Doubles(T), Doubles(T * T)};
    const double scale = m == NO_SCALE ? 1 : m == SCALE_HS ? 1 / (double)HS : 1 / std::sqrt((double)HS);
    for (size_t t = 0; t < T; t++) {
        const size_t n = m == NO_MASK ? T : m == STRICT_MASK ? t : m == MASK_BLOCK || m == MASK_BLOCK_SUM ? std::min(T, (t / WARPS + 1) * WARPS) : t + 1;
        Doubles s(T, -INFINITY);
        double row_max = -INFINITY, row_sum = 0, unscaled = 0;
        for (size_t u = 0; u < n; u++) {
            s[u] = scale * dot_of(x.q, t, x.k, u, HS);
            row_max = std::fmax(row_max, s[u]);
        }
        // with a mistake in it, a term is measured from the maximum at its time
        Doubles so_far(n);
        for (size_t u = 0, at = 0; u < n && m != NONE; u++) {
            if (u % tile == 0) { at = std::min(n, u + tile); }
            double largest = -INFINITY;
            for (size_t w = 0; w < at; w++) largest = std::fmax(largest, s[w]);
            so_far[u] = largest;
        }
        Doubles terms(n);
        for (size_t u = 0; u < n; u++) {
            const double right = m == MAX_NOT_KEPT && u < (n - 1) / tile * tile ? 0 : std::exp(s[u] - row_max), stale = std::exp(s[u] - so_far[u]);
            terms[u] = m == O_NOT_RESCALED || m == NOTHING_RESCALED ? stale : right;
            row_sum += m == SUM_NOT_RESCALED || m == NOTHING_RESCALED ? stale : right, unscaled += right;
        }
        if (n == 0) for (size_t d = 0; d < HS; d++) y.out[t * HS + d] = NAN;  // 0 / 0
        y.lse[t] = m == MAX_NOT_KEPT ? -FLT_MAX : m == NO_LOG ? row_max + row_sum : (m == NO_MAX_IN_LSE ? 0 : row_max) + std::log(row_sum);
        for (size_t u = 0; u < n; u++) {
            const double p = m == NOT_DIVIDED || m == SUM_OF_LANE ? terms[u] : terms[u] / row_sum;
            y.probs[t * T + u] = p;
            if (m == MASK_BLOCK_SUM && u > t) continue;
            for (size_t d = 0; d < HS; d++) y.out[t * HS + d] = (m == LAST_KEY ? 0 : y.out[t * HS + d]) + p * (m == KEYS_FOR_VALUES ? x.k : x.v)[u * HS + d];
        }
        float of_lane[WARP] = {};
        for (size_t u = 0; u < n; u++) of_lane[u % WARP] += (float)terms[u];
        for (size_t d = 0; d < HS && m == SUM_OF_LANE; d++) y.out[t * HS + d] /= of_lane[d % WARP];
    }
    return y;
}
// dot() without warp_sum: each lane has a softmax of its own, by the products of its elements.
inline Doubles without_warp_sum(const Head& x) {
    Doubles out(x.q.size());
    for (size_t lane = 0; lane < std::min<size_t>(WARP, x.HS); lane++) {
        Head y = x;
        for (size_t i = 0; i < y.q.size(); i++) y.q[i] *= i % x.HS % WARP == lane;
        const Doubles of_lane = forward_oracle(y).out;
        for (size_t i = 0; i < out.size(); i++) if (i % x.HS % WARP == lane) out[i] = of_lane[i];
    }
    return out;
}
// A tile's step without warp_max: each lane has a maximum of its own.
inline Doubles without_warp_max(const Head& x) {
    Doubles out(x.q.size());
    for (size_t t = 0; t < x.T; t++) {
        double row_max[WARP], row_sum[WARP] = {};
        std::fill_n(row_max, WARP, -FLT_MAX);
        double* o = &out[t * x.HS];
        for (size_t first = 0; first <= t; first += WARP) {
            double rescale[WARP], p[WARP], sum = 0;
            for (size_t l = 0; l < WARP; l++) {
                const double s = first + l <= t ? dot_of(x.q, t, x.k, first + l, x.HS) / std::sqrt((double)x.HS) : -FLT_MAX, larger = std::fmax(row_max[l], s);
                rescale[l] = std::exp(row_max[l] - larger), p[l] = std::exp(s - larger), row_max[l] = larger, sum += p[l];
            }
            for (size_t l = 0; l < WARP; l++) row_sum[l] = row_sum[l] * rescale[l] + sum;
            for (size_t d = 0; d < x.HS; d++) {
                o[d] *= rescale[d % WARP];
                for (size_t j = 0; j < WARP && first + j <= t; j++) o[d] += p[j] * x.v[(first + j) * x.HS + d];
            }
        }
        for (size_t d = 0; d < x.HS; d++) o[d] /= row_sum[d % WARP];
    }
    return out;
}
// Warps of the last block that have no query return after the first tile: where they would have copied stands what stood there before.
inline Doubles with_holes(const Head& x) {
    Head y = x;
    const size_t HS = x.HS, alive = x.T % WARPS;
    for (size_t i = WARP * HS; i < y.k.size(); i++) if (i % (WARP * HS) / WARP % WARPS >= alive) y.k[i] = y.k[i - WARP * HS], y.v[i] = y.v[i - WARP * HS];
    Doubles out = forward_oracle(x).out;
    const Doubles holed = forward_oracle(y).out;
    std::copy(holed.end() - (ptrdiff_t)(alive * HS), holed.end(), out.end() - (ptrdiff_t)(alive * HS));
    return out;
}
struct Gradients { Doubles dq, dk, dv; };
inline Gradients backward_oracle(const Head& x, const Doubles& dout, const Attention& y, Mistake m = NONE) {
    const size_t T = x.T, HS = x.HS;
    Gradients g{Doubles(T * HS), Doubles(T * HS), Doubles(T * HS)};
    const double scale = 1 / std::sqrt((double)HS);
    for (size_t t = 0; t < T; t++) {
        double delta = 0;
        Doubles dp(T);
        for (size_t u = 0; u < T; u++) dp[u] = dot_of(dout, t, x.v, u, HS);
        for (size_t u = 0; u <= t; u++) {
            delta += (m == DELTA_NO_P ? 1 : y.probs[t * T + u]) * dp[u];
        }
        for (size_t u = 0; u <= t; u++) {
            const double score = scale * dot_of(x.q, t, x.k, u, HS);
            const double p = m == P_NO_SCALE ? std::exp(score / scale - y.lse[t]) : m == LSE_OF_KEY ? std::exp(score - y.lse[u]) : y.probs[t * T + u] * (m == P_NOT_NORMALISED ? std::exp(y.lse[t]) : 1);
            const double minus = m == NO_DELTA ? 0 : m == DELTA_ADDED ? -delta : m == DELTA_OF_KEY ? dot_of(dout, u, y.out, u, HS) : m == DELTA_DOUT_Q ? dot_of(dout, t, x.q, t, HS) : m == DELTA_OUT_Q ? dot_of(y.out, t, x.q, t, HS) : delta;
            const double ds = (m == NO_P_IN_DS ? 1 : p) * (dp[u] - minus);
            for (size_t d = 0; d < HS; d++) {
                const size_t query = t * HS + d, key = u * HS + d;
                g.dq[query] = (m == DQ_LAST ? 0 : g.dq[query]) + (m == NO_SCALE_DQ ? 1 : scale) * ds * (m == DQ_OF_Q ? x.q[query] : x.k[key]);
                if (m == LATER_QUERIES && u == t) continue;
                g.dk[key] = (m == DK_LAST ? 0 : g.dk[key]) + (m == NO_SCALE_DK ? 1 : scale) * ds * (m == DK_OF_K ? x.k[key] : x.q[query]);
                g.dv[key] = (m == DV_LAST ? 0 : g.dv[key]) + (m == DV_OF_DS ? ds : p) * dout[query];
            }
        }
        for (size_t u = t + 1; u < T && m == ALL_QUERIES; u++) {  // keys that the query does not see
            const double p = std::exp(scale * dot_of(x.q, t, x.k, u, HS) - y.lse[t]), ds = p * (dp[u] - delta);
            for (size_t d = 0; d < HS; d++) g.dk[u * HS + d] += scale * ds * x.q[t * HS + d], g.dv[u * HS + d] += p * dout[t * HS + d];
        }
    }
    return g;
}

// ---- bounds, in units of a float's rounding --------------------------------------------------------------------------------
constexpr double ROUNDING = 0x1p-24;
inline double largest(const Doubles& x) {
    double most = 0;
    for (double e : x) most = std::fmax(most, std::fabs(e));
    return most;
}
// The largest sum over d of |a[t][d] b[u][d]|, u <= t: a dot product in floats is wrong by HS roundings of that at most.
inline double largest_dot(const double* a, const Doubles& b, size_t t, size_t HS) {
    double most = 0;
    for (size_t u = 0; u <= t; u++) {
        double sum = 0;
        for (size_t d = 0; d < HS; d++) sum += std::fabs(a[d] * b[u * HS + d]);
        most = std::fmax(most, sum);
    }
    return most;
}
// How wrong a score of row t can be: HS roundings, the scale's, and those of the difference to the maximum.
inline double score_bound(const Head& x, size_t t) { return ((double)x.HS + 8) * ROUNDING * (1 + largest_dot(x.q.data() + t * x.HS, x.k, t, x.HS) / std::sqrt((double)x.HS)); }

// ---- the parts -------------------------------------------------------------------------------------------------------------
// Every third query is 40 times as long: e^s is infinite in floats. The first sees itself alone, by a score so low that e^s is 0.
inline Head head_of(Trial& t, Size s, bool long_queries) {
    const size_t T = (size_t)s.N, HS = (size_t)s.C;
    Head x{t.normal(T * HS), t.normal(T * HS), t.normal(T * HS), T, HS};
    if (long_queries) for (size_t i = 0; i < T * HS; i++) x.q[i] = (float)(i < HS ? -400 * x.k[i] : i / HS % 3 == 2 ? x.q[i] * 40 : x.q[i]);
    return x;
}
inline void expect_out(Trial& t, const Head& x, const Attention& right, bool online, size_t tile) {
    Doubles bounds(right.out.size());
    // probabilities are wrong by e^(2 errors of a score), and T roundings of two sums
    const double most = largest(x.v);
    for (size_t row = 0; row < x.T; row++) std::fill_n(&bounds[row * x.HS], x.HS, (2 * score_bound(x, row) + (4 * (double)x.T + 16) * ROUNDING) * most);
    auto with = [&](Mistake m) { return t.wants(m) ? forward_oracle(x, m, tile).out : Doubles(); };
    std::vector<Cause> causes = {
        {"scores are not scaled: times 1 / sqrt(HS)", with(NO_SCALE)}, {"scores are divided by HS, not by its root", with(SCALE_HS)}, {"the causal mask is missing: keys u > t count", with(NO_MASK)},
        {"a query does not see its own key: u <= t, not u < t", with(STRICT_MASK)}, {"the sum is not divided by row_sum", with(NOT_DIVIDED)}, {"keys stand where values must", with(KEYS_FOR_VALUES)}, {"each key overwrites what the keys before it have added", with(LAST_KEY)}};
    if (online) {
        causes.push_back({"o is not rescaled when the maximum grows", with(O_NOT_RESCALED)});
        causes.push_back({"row_sum is not rescaled when the maximum grows", with(SUM_NOT_RESCALED)});
        causes.push_back({"neither o nor row_sum is rescaled when the maximum grows", with(NOTHING_RESCALED)});
        causes.push_back({tile > 1 ? "row_max stays what it was: only the last tile counts" : "row_max stays what it was: only the last key counts", with(MAX_NOT_KEPT)});
    }
    if (online && !t.is_large()) {
        causes.push_back({"dot() is the lane's own products alone: warp_sum is missing", without_warp_sum(x)});
        if (tile > 1) for (const Cause& c : std::vector<Cause>{
            {"row_sum gets the lane's own p alone: warp_sum is missing", with(SUM_OF_LANE)}, {"the new maximum is the lane's own: warp_max is missing", without_warp_max(x)},
            {"keys up to the block's last query count: of its tile's keys a query sees the first `visible`", with(MASK_BLOCK)}, {"row_sum has keys that the query does not see: the lanes from `visible` on keep s = -FLT_MAX", with(MASK_BLOCK_SUM)},
            {"a warp without a query returns: its threads must copy their share of every tile, so it goes on with `continue`", with_holes(x)}}) causes.push_back(c);
    }
    t.expect("out", right.out, bounds, causes);
}
inline void expect_lse(Trial& t, const Head& x, const Attention& right, size_t tile) {
    Doubles bounds(x.T);
    for (size_t i = 0; i < x.T; i++) bounds[i] = 2 * score_bound(x, i) + ((double)x.T + 16 + 2 * std::fabs(right.lse[i])) * ROUNDING;
    auto with = [&](Mistake m) { return t.wants(m) ? forward_oracle(x, m, tile).lse : Doubles(); };
    t.expect("lse", right.lse, bounds, {{"row_max is not added to the logarithm", with(NO_MAX_IN_LSE)}, {"the logarithm of row_sum is missing", with(NO_LOG)}, {"row_sum is not rescaled when the maximum grows", with(SUM_NOT_RESCALED)}, {"row_max stays what it was", with(MAX_NOT_KEPT)},
                                        {"scores are not scaled: times 1 / sqrt(HS)", with(NO_SCALE)}, {"the causal mask is missing: keys u > t count", with(NO_MASK)}, {"a query does not see its own key: u <= t, not u < t", with(STRICT_MASK)}});
}
inline void grade_probs(Trial& t, Size s) {
    const Head x = head_of(t, s, true);
    float *out = t.result("out", x.T * x.HS, s.C), *probs = t.result("probs", x.T * x.T, s.N);
    const float *q = t.given("q", x.q, s.C), *k = t.given("k", x.k, s.C), *v = t.given("v", x.v, s.C);
    t.run([&] { forward_cpp(out, probs, q, k, v, s.N, s.C); });
    const Attention right = forward_oracle(x);
    Doubles bounds(right.probs.size());
    for (size_t i = 0; i < bounds.size(); i++) bounds[i] = 2 * score_bound(x, i / x.T) + (2 * (double)x.T + 16) * ROUNDING;
    auto with = [&](Mistake m) { return forward_oracle(x, m).probs; };
    Doubles unmasked = right.probs;
    for (size_t i = 0; i < unmasked.size(); i++) if (i % x.T > i / x.T) unmasked[i] = NAN;
    t.expect("probs", right.probs, bounds, {{"scores are not scaled: times 1 / sqrt(HS)", with(NO_SCALE)}, {"scores are divided by HS, not by its root", with(SCALE_HS)}, {"the causal mask is missing: keys u > t count", with(NO_MASK)},
             {"a query does not see its own key: u <= t, not u < t", with(STRICT_MASK)}, {"exp is not divided by row_sum", with(NOT_DIVIDED)}, {"0 is not written to the masked places, u > t", unmasked}});
    expect_out(t, x, right, false, 1);
}
using Naive = void (*)(float*, float*, const float*, const float*, const float*, int, int, stream_t);
inline void grade_naive(Trial& t, Size s) {
    const Head x = head_of(t, s, true);
    float *out = t.result("out", x.T * x.HS, s.C), *scores = t.scratch("scores", x.T * x.T);
    const float *q = t.given("q", x.q, s.C), *k = t.given("k", x.k, s.C), *v = t.given("v", x.v, s.C);
    t.run([&] { forward_naive(out, scores, q, k, v, s.N, s.C, t.stream); });
    expect_out(t, x, forward_oracle(x), false, 1);
}
inline void online_on_host(float* out, float* lse, const float* q, const float* k, const float* v, int T, int HS, stream_t) { online_cpp(out, lse, q, k, v, T, HS); }
template <Naive forward, size_t TILE> void grade_online(Trial& t, Size s) {
    const Head x = head_of(t, s, true);
    float *out = t.result("out", x.T * x.HS, s.C), *lse = t.result("lse", x.T);
    const float *q = t.given("q", x.q, s.C), *k = t.given("k", x.k, s.C), *v = t.given("v", x.v, s.C);
    t.run([&] { forward(out, lse, q, k, v, s.N, s.C, t.stream); });
    const Attention right = forward_oracle(x);
    expect_out(t, x, right, true, TILE);
    expect_lse(t, x, right, TILE);
}
template <bool CUDA> void grade_backward(Trial& t, Size s) {
    const Head x = head_of(t, s, false);
    const size_t T = x.T, HS = x.HS;
    const Doubles d = t.normal(T * HS);
    const Attention y = forward_oracle(x);
    float *dq = t.result("dq", T * HS, s.C), *dk = t.result("dk", T * HS, s.C), *dv = t.result("dv", T * HS, s.C);
    const float *dout = t.given("dout", d, s.C), *q = t.given("q", x.q, s.C), *k = t.given("k", x.k, s.C), *v = t.given("v", x.v, s.C);
    if constexpr (CUDA) {
        const float *out = t.given("out", y.out, s.C), *lse = t.given("lse", y.lse);
        float* delta = t.scratch("delta", T);
        t.run([&] { backward_cuda(dq, dk, dv, delta, dout, out, lse, q, k, v, s.N, s.C, t.stream); });
    } else {
        const float* probs = t.given("probs", y.probs, s.N);
        t.run([&] { backward_cpp(dq, dk, dv, dout, probs, q, k, v, s.N, s.C); });
    }
    // p is wrong by e^(2 errors of a score), dp and delta by a dot product's roundings and T of a sum's; a row's p add up to 1, a column's to `column`
    double scores = 0, dps = 0, column = 1;
    for (size_t i = 0; i < T; i++) scores = std::fmax(scores, score_bound(x, i)), dps = std::fmax(dps, largest_dot(d.data() + i * HS, x.v, i, HS));
    for (size_t u = 0; u < T; u++) {
        double sum = 0;
        for (size_t i = u; i < T; i++) sum += y.probs[i * T + u];
        column = std::fmax(column, sum);
    }
    const double ps = 2 * scores + 16 * ROUNDING, dss = 2 * dps * (ps + 2 * ((double)HS + (double)T + 8) * ROUNDING), scale = 1 / std::sqrt((double)HS);
    const Gradients right = backward_oracle(x, d, y);
    auto with = [&](Mistake m) { return t.wants(m) ? backward_oracle(x, d, y, m) : Gradients(); };
    const Gradients no_delta = with(NO_DELTA), added = with(DELTA_ADDED), no_weights = with(DELTA_NO_P), no_p = with(NO_P_IN_DS), not_normalised = with(P_NOT_NORMALISED), unscaled = with(P_NO_SCALE), of_key = with(LSE_OF_KEY), dout_q = with(DELTA_DOUT_Q), out_q = with(DELTA_OUT_Q);
    const char *delta_missing = "delta is not subtracted from dp", *delta_plus = "delta is added to dp, not subtracted", *unweighted = "delta is the sum of dp, not of p * dp", *without_p = "the factor p is missing in ds", *without_lse = "lse is not subtracted from the score: p = exp(s - lse)", *without_scale = "the score in p = exp(s - lse) is not scaled",
               *other_delta = "delta is made of q: it is dout[t] . out[t]", *lse_of_key = "lse[u] stands where the query's must: lse[t]";
    t.expect("dq", right.dq, scale * dss * largest(x.k), {{delta_missing, no_delta.dq}, {delta_plus, added.dq}, {unweighted, no_weights.dq}, {without_p, no_p.dq}, {without_lse, not_normalised.dq}, {"the factor scale is missing in dq", with(NO_SCALE_DQ).dq},
             {"dq gets q: it gets the keys", with(DQ_OF_Q).dq}, {without_scale, unscaled.dq}, {other_delta, dout_q.dq}, {other_delta, out_q.dq}, {"each key overwrites what the keys before it have added", with(DQ_LAST).dq}});
    t.expect("dk", right.dk, scale * column * dss * largest(x.q), {{delta_missing, no_delta.dk}, {delta_plus, added.dk}, {unweighted, no_weights.dk}, {without_p, no_p.dk}, {without_lse, not_normalised.dk}, {"the factor scale is missing in dk", with(NO_SCALE_DK).dk},
             {"dk gets k: it gets the queries", with(DK_OF_K).dk}, {without_scale, unscaled.dk}, {lse_of_key, of_key.dk}, {"delta[u] stands where the query's must: delta[t]", with(DELTA_OF_KEY).dk}, {"each query overwrites what the queries before it have added", with(DK_LAST).dk}, {"queries before u count, too: t from u on", with(ALL_QUERIES).dk}, {"the query t = u does not count: t from u on", with(LATER_QUERIES).dk}});
    t.expect("dv", right.dv, column * (ps + (double)T * ROUNDING) * largest(d), {{"dv gets ds: it gets p", with(DV_OF_DS).dv}, {without_lse, not_normalised.dv}, {without_scale, unscaled.dv}, {lse_of_key, of_key.dv}, {"each query overwrites what the queries before it have added", with(DV_LAST).dv}, {"queries before u count, too: t from u on", with(ALL_QUERIES).dv}, {"the query t = u does not count: t from u on", with(LATER_QUERIES).dv}});
}

inline const std::vector<Size> SIZES = {{5, 3}, {1, 1}, {37, 33}, {9, 70}, {64, 32}};  // 37: a block's last warps have no query; 70: more than two elements a lane
// One head of 2048 positions: two products forward, five backward, as s is computed again (what both kernels compute, s and dp, counts once), of the 2048 * 2049 / 2 pairs of HS elements each.
constexpr double PRODUCT = 2.0 * 2048 * 2049 / 2 * 64;
constexpr Timed FORWARD = {{2048, 64}, 2 * PRODUCT}, BACKWARD = {{2048, 64}, 5 * PRODUCT};
constexpr Advice TILES = {.outside = "of the tile's rows those from `last` on are not to be read, and their threads do not return: barriers follow",
                          .outside_shared = "the block needs queries, WARPS * HS floats, keys, WARP * stride of them, and values, WARP * HS, each of sizeof(float) bytes: does the launch say so, and with the stride of the kernel?",
                          .divergent = "at that line or before it: all lanes must come to warp_max, warp_sum, dot and from_lane, and all threads to the barriers: none under an `if` for some lanes; the loop over j is outside, with the same bound for all lanes, that over the lane's elements inside"};
inline const std::vector<Part> PARTS = {
    {grade_probs, SIZES},
    {grade_backward<false>, SIZES},
    {grade_online<online_on_host, 1>, SIZES},
    {grade_naive, {{5, 3}, {1, 1}, {70, 5}, {64, 32}}, true, {}, FORWARD},  // 70: more than a block of 64 threads
    {grade_online<forward_warp, 1>, SIZES, true, {.touched = 1.05, .sectors = 1.1, .launches = 1}, FORWARD},
    {grade_online<forward_tile, WARP>, SIZES, true, {.asked = 4, .touched = 1.05, .sectors = 1.1, .launches = 1, .no_conflicts = true}, FORWARD, TILES},
    {grade_backward<true>, SIZES, true, {.touched = 1.6, .sectors = 1.1, .launches = 2}, BACKWARD},
};
}  // namespace learn
