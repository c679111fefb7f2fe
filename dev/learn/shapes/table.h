// table.h: what the parts of the exercise on shapes must give, and what comes out of typical mistakes.
#pragma once
#include "../grade.h"

namespace learn {
// All sizes differ, so that one in the place of another shows.
constexpr int B = 2, T = 5, NH = 3, HS = 4, C = NH * HS;

// Every element of the tensor in turn must get the next number; with the indices in another order another one.
inline void grade_number(Trial& t, Size) {
    float* got = t.result("number", B * T * C);
    t.run([&] { for (int b = 0, k = 0; b < B; b++) for (int s = 0; s < T; s++) for (int c = 0; c < C; c++) got[k++] = (float)number_of(b, s, c, B, T, C); });
    Doubles right, by_b, no_row, columns;
    for (int b = 0; b < B; b++) for (int s = 0; s < T; s++) for (int c = 0; c < C; c++)
        right.push_back((b * T + s) * C + c), by_b.push_back((b * B + s) * C + c), no_row.push_back(s * C + c), columns.push_back((c * T + s) * B + b);
    t.expect("number", right, 0.1, {{"b is multiplied by B: a row of the batch has T tokens", by_b}, {"b is not there", no_row}, {"the first index runs fastest: that is Fortran's order", columns}});
}
inline Doubles places(int plan) {  // 0: right; 1: parts of a head side by side; 2: three tensors (B, T, C); 3: heads before tokens
    Doubles p;
    for (int part = 0; part < 3; part++) for (int b = 0; b < B; b++) for (int s = 0; s < T; s++) for (int h = 0; h < NH; h++) for (int i = 0; i < HS; i++)
        p.push_back(plan == 0 ? ((b * T + s) * 3 + part) * C + h * HS + i : plan == 1 ? (((b * T + s) * NH + h) * 3 + part) * HS + i
                    : plan == 2 ? ((part * B + b) * T + s) * C + h * HS + i : (((b * 3 + part) * NH + h) * T + s) * HS + i);
    return p;
}
inline void grade_qkv(Trial& t, Size) {
    float* got = t.result("place", 3 * B * T * C);
    t.run([&] {
        int k = 0;
        for (int part = 0; part < 3; part++) for (int b = 0; b < B; b++) for (int s = 0; s < T; s++) for (int h = 0; h < NH; h++) for (int i = 0; i < HS; i++) got[k++] = (float)in_qkv(part, b, s, h, i, B, T, NH, HS);
    });
    t.expect("place", places(0), 0.1, {{"query, key and value of each head stand side by side: it is all heads' queries first", places(1)}, {"queries, keys and values are three tensors: a token's stand side by side", places(2)}, {"heads stand before tokens", places(3)}});
}
inline double count_of(double V, double max_T, double L, double c, bool bias, bool norms, bool last) {
    return V * c + max_T * c + L * (12 * c * c + (bias ? 9 * c : 0) + (norms ? 4 * c : 0)) + (last ? 2 * c : 0);
}
inline void grade_parameters(Trial& t, Size) {
    const double sizes[3][4] = {{131, 16, 3, 8}, {7, 5, 1, 12}, {50257, 1024, 12, 768}};
    float* got = t.result("parameters", 3);
    t.run([&] { for (int i = 0; i < 3; i++) got[i] = (float)parameters((size_t)sizes[i][0], (size_t)sizes[i][1], (size_t)sizes[i][2], (size_t)sizes[i][3]); });
    auto with = [&](bool bias, bool norms, bool last) { Doubles n; for (auto& s : sizes) n.push_back(count_of(s[0], s[1], s[2], s[3], bias, norms, last)); return n; };
    t.expect("parameters", with(true, true, true), {0.1, 0.1, 8}, {{"the biases are missing", with(false, true, true)}, {"the LayerNorms of the blocks are missing", with(true, false, true)}, {"the last LayerNorm is missing", with(true, true, false)}});
}
inline void grade_keys(Trial& t, Size) {
    const Doubles qkv = t.normal(B * T * 3 * C);
    float* out = t.result("out", B * T * C, HS);
    const float* inp = t.given("qkv", qkv, 3 * C);
    t.run([&] { keys_of(out, inp, B, T, NH, HS); });
    auto with = [&](int part, bool transposed) {
        Doubles y;
        for (int b = 0; b < B; b++) for (int h = 0; h < NH; h++) for (int s = 0; s < T; s++) for (int i = 0; i < HS; i++) {
            const int k = transposed ? (b * NH + h) * T + s : 0, token = transposed ? k / NH % T : s, head = transposed ? k % NH : h, row = transposed ? k / (NH * T) : b;
            y.push_back(qkv[(size_t)(((row * T + token) * 3 + part) * C + head * HS + i)]);
        }
        return y;
    };
    t.expect("out", with(1, false), 1e-30, {{"these are the queries", with(0, false)}, {"these are the values", with(2, false)}, {"out is (B, T, NH, HS): heads are not apart", with(1, true)}});
}

inline const std::vector<Part> PARTS = {{grade_number, {{B * T, C}}}, {grade_qkv, {{B * T, C}}}, {grade_parameters, {{131, 8}}}, {grade_keys, {{B * T, C}}}};
}  // namespace learn
