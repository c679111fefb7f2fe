// layers.h: the layers of a block as the exercise gets them, short and slow, for one row of T tokens. X is float in the exercise; the table's oracle takes double.
//     norm        out = (inp - mean) * rstd * w + b, a row at a time     inp, out (T, C), mean, rstd (T), w, b (C)
//     linear      out = inp @ w^T + b                                    inp (T, C), out (T, OC), w (OC, C), b (OC)
//     gelu        each of n elements by itself
//     attention   of one head, over this token and those before it       qkv (T, 3C): queries, keys, values; out (T, C)
#pragma once
#include <cmath>
#include <vector>

template <class X> void add(X* out, const X* a, const X* b, int n) {
    for (int i = 0; i < n; i++) out[i] = a[i] + b[i];
}

template <class X> void norm_forward(X* out, X* mean, X* rstd, const X* inp, const X* w, const X* b, int T, int C) {
    for (int t = 0; t < T; t++, inp += C, out += C) {
        X m = 0, v = 0;
        for (int c = 0; c < C; c++) m += inp[c] / C;
        for (int c = 0; c < C; c++) v += (inp[c] - m) * (inp[c] - m) / C;
        mean[t] = m, rstd[t] = 1 / std::sqrt(v + (X)1e-5);
        for (int c = 0; c < C; c++) out[c] = (inp[c] - m) * rstd[t] * w[c] + b[c];
    }
}
// dinp +=   dw +=   db +=
template <class X> void norm_backward(X* dinp, X* dw, X* db, const X* dout, const X* inp, const X* mean, const X* rstd, const X* w, int T, int C) {
    for (int t = 0; t < T; t++, inp += C, dout += C, dinp += C) {
        X mean_dn = 0, mean_dn_n = 0;
        auto normed = [&](int c) { return (inp[c] - mean[t]) * rstd[t]; };
        for (int c = 0; c < C; c++) mean_dn += dout[c] * w[c] / C, mean_dn_n += dout[c] * w[c] * normed(c) / C;
        for (int c = 0; c < C; c++) dinp[c] += rstd[t] * (dout[c] * w[c] - mean_dn - normed(c) * mean_dn_n), dw[c] += dout[c] * normed(c), db[c] += dout[c];
    }
}

template <class X> void linear_forward(X* out, const X* inp, const X* w, const X* b, int T, int C, int OC) {
    for (int t = 0; t < T; t++)
        for (int o = 0; o < OC; o++) {
            X sum = b[o];
            for (int c = 0; c < C; c++) sum += inp[t * C + c] * w[o * C + c];
            out[t * OC + o] = sum;
        }
}
// dinp =   dw +=   db +=
template <class X> void linear_backward(X* dinp, X* dw, X* db, const X* dout, const X* inp, const X* w, int T, int C, int OC) {
    for (int i = 0; i < T * C; i++) dinp[i] = 0;
    for (int t = 0; t < T; t++)
        for (int o = 0; o < OC; o++) {
            const X d = dout[t * OC + o];
            db[o] += d;
            for (int c = 0; c < C; c++) dinp[t * C + c] += d * w[o * C + c], dw[o * C + c] += d * inp[t * C + c];
        }
}

template <class X> void gelu_forward(X* out, const X* inp, int n) {
    for (int i = 0; i < n; i++) out[i] = inp[i] / 2 * (1 + std::tanh((X)0.7978845608 * (inp[i] + (X)0.044715 * inp[i] * inp[i] * inp[i])));
}
// dinp =      may be the same memory as dout
template <class X> void gelu_backward(X* dinp, const X* dout, const X* inp, int n) {
    for (int i = 0; i < n; i++) {
        const X x = inp[i], t = std::tanh((X)0.7978845608 * (x + (X)0.044715 * x * x * x));
        dinp[i] = dout[i] * ((1 + t) / 2 + x / 2 * (1 - t * t) * (X)0.7978845608 * (1 + (X)0.134145 * x * x));
    }
}

template <class X> std::vector<X> probabilities(const X* qkv, int t, int C) {
    std::vector<X> p;
    X sum = 0;
    for (int s = 0; s <= t; s++) {
        X score = 0;
        for (int c = 0; c < C; c++) score += qkv[t * 3 * C + c] * qkv[s * 3 * C + C + c] / std::sqrt((X)C);
        p.push_back(std::exp(score)), sum += p.back();
    }
    for (X& x : p) x /= sum;
    return p;
}
template <class X> void attention_forward(X* out, const X* qkv, int T, int C) {
    for (int t = 0; t < T; t++) {
        const std::vector<X> p = probabilities(qkv, t, C);
        for (int c = 0; c < C; c++) out[t * C + c] = 0;
        for (int s = 0; s <= t; s++) for (int c = 0; c < C; c++) out[t * C + c] += p[(size_t)s] * qkv[s * 3 * C + 2 * C + c];
    }
}
// dqkv =
template <class X> void attention_backward(X* dqkv, const X* dout, const X* qkv, int T, int C) {
    for (int i = 0; i < T * 3 * C; i++) dqkv[i] = 0;
    for (int t = 0; t < T; t++) {
        const std::vector<X> p = probabilities(qkv, t, C);
        std::vector<X> dp((size_t)t + 1);
        X sum = 0;
        for (int s = 0; s <= t; s++) {
            for (int c = 0; c < C; c++) dp[(size_t)s] += dout[t * C + c] * qkv[s * 3 * C + 2 * C + c], dqkv[s * 3 * C + 2 * C + c] += p[(size_t)s] * dout[t * C + c];
            sum += p[(size_t)s] * dp[(size_t)s];
        }
        for (int s = 0; s <= t; s++) {
            const X dscore = p[(size_t)s] * (dp[(size_t)s] - sum) / std::sqrt((X)C);
            for (int c = 0; c < C; c++) dqkv[t * 3 * C + c] += dscore * qkv[s * 3 * C + C + c], dqkv[s * 3 * C + C + c] += dscore * qkv[t * 3 * C + c];
        }
    }
}
