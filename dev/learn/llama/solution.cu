// From GPT-2 to Llama 3, part by part, in C++: doc/llama3.md explains each. Fill in what says BLANK, in as many lines as you like; `make learn-llama` says how far it is.
// Everything is fp32. sqrtf, expf, cosf, sinf and powf are there.

// ---- 1. RMSNorm
// out = inp * rstd * weight,   rstd = 1 / sqrt(mean(inp^2) + eps)     each row of C by itself; inp, out (N, C), rstd (N), weight (C)
void rmsnorm_forward(float* out, float* rstd, const float* inp, const float* weight, int N, int C, float eps) {
    for (int n = 0; n < N; n++) {
        const float* x = inp + n * C;
        //{ of this row
        float squares = 0;
        for (int c = 0; c < C; c++) squares += x[c] * x[c];
        const float s = 1 / sqrtf(squares / C + eps);
        //} const float s = BLANK;
        //{ the row of out
        for (int c = 0; c < C; c++) out[n * C + c] = x[c] * s * weight[c];
        //} BLANK;
        rstd[n] = s;
    }
}

// ---- 2. RMSNorm, backward
// dinp =   dweight +=
//   dinp = rstd * (dn - n * mean(dn * n)),   dn = dout * weight,   n = inp * rstd;   dweight = sum over rows of dout * n
void rmsnorm_backward(float* dinp, float* dweight, const float* dout, const float* inp, const float* rstd, const float* weight, int N, int C) {
    for (int n = 0; n < N; n++) {
        const float *x = inp + n * C, *dy = dout + n * C, s = rstd[n];
        //{ the mean of dn * n over the row
        float mean = 0;
        for (int c = 0; c < C; c++) mean += dy[c] * weight[c] * x[c] * s;
        mean /= C;
        //} const float mean = BLANK;
        //{ the row of dinp, and what the row adds to dweight
        for (int c = 0; c < C; c++) {
            const float normed = x[c] * s;
            dinp[n * C + c] = s * (dy[c] * weight[c] - normed * mean);
            dweight[c] += dy[c] * normed;
        }
        //} BLANK;
    }
}

// ---- 3. rotary positions
// A head of HS numbers is HS / 2 pairs: (x[i], x[i + HS/2]), i < HS/2. At position t pair i is turned by the angle t * theta^(-2i/HS):
//     x[i]' = x[i] cos - x[i + HS/2] sin,   x[i + HS/2]' = x[i + HS/2] cos + x[i] sin
float angle_of(int t, int i, int HS, float theta) {
    //{ in radians
    return t * powf(theta, -2.0f * i / HS);
    //} return BLANK;
}
// x is (T, HS), one head of T tokens at positions 0 to T - 1, turned in place.
void rope_forward(float* x, int T, int HS, float theta) {
    const int half = HS / 2;
    for (int t = 0; t < T; t++)
        for (int i = 0; i < half; i++) {
            float &a = x[t * HS + i], &b = x[t * HS + half + i];
            const float c = cosf(angle_of(t, i, HS, theta)), s = sinf(angle_of(t, i, HS, theta));
            //{ both are turned; each needs what the other was
            const float before = a;
            a = before * c - b * s;
            b = b * c + before * s;
            //} BLANK;
        }
}

// ---- 4. rotary positions, backward
// dx is the gradient of what rope_forward made, and becomes that of what it was given: the transpose of a rotation turns back.
void rope_backward(float* dx, int T, int HS, float theta) {
    //{ as in part 3, by the angle with a minus
    const int half = HS / 2;
    for (int t = 0; t < T; t++)
        for (int i = 0; i < half; i++) {
            float &a = dx[t * HS + i], &b = dx[t * HS + half + i];
            const float c = cosf(angle_of(t, i, HS, theta)), s = -sinf(angle_of(t, i, HS, theta)), before = a;
            a = before * c - b * s;
            b = b * c + before * s;
        }
    //} BLANK;
}

// ---- 5. SwiGLU
// out (N, FF) = silu(gate) * up,   silu(z) = z / (1 + e^-z);   inp (N, 2 FF): of each row FF numbers of gate, then FF of up
void swiglu_forward(float* out, const float* inp, int N, int FF) {
    for (int n = 0; n < N; n++) {
        const float *gate = inp + n * 2 * FF, *up = gate + FF;
        //{ the row of out
        for (int c = 0; c < FF; c++) out[n * FF + c] = gate[c] / (1 + expf(-gate[c])) * up[c];
        //} BLANK;
    }
}

// ---- 6. SwiGLU, backward
// dinp (N, 2 FF) =   dgate = dout * up * silu'(gate),   dup = dout * silu(gate)
//   silu'(z) = s + z s (1 - s),   s = 1 / (1 + e^-z)
void swiglu_backward(float* dinp, const float* dout, const float* inp, int N, int FF) {
    for (int n = 0; n < N; n++) {
        const float *gate = inp + n * 2 * FF, *up = gate + FF, *dy = dout + n * FF;
        //{ where this row's gradients go, as gate and up lie
        float *dgate = dinp + n * 2 * FF, *dup = dgate + FF;
        //} float *dgate = BLANK, *dup = BLANK;
        //{ both
        for (int c = 0; c < FF; c++) {
            const float s = 1 / (1 + expf(-gate[c]));
            dgate[c] = dy[c] * up[c] * (s + gate[c] * s * (1 - s));
            dup[c] = dy[c] * gate[c] * s;
        }
        //} BLANK;
    }
}

// ---- 7. grouped queries
// A token's row of qkv is NH heads of queries, then NKV heads of keys, then NKV heads of values, each of HS numbers; NH is a multiple of NKV. Neighbouring heads of queries share a head of keys: the first NH / NKV the first, and so on.
struct Heads { int NH, NKV, HS; };
// Where in a token's row the query of head h begins, and the key that this head of queries reads.
int query_at(int h, Heads heads) {
    //{ in numbers from the row's begin
    return h * heads.HS;
    //} return BLANK;
}
int key_at(int h, Heads heads) {
    //{ behind all queries; which head of keys is it?
    return (heads.NH + h / (heads.NH / heads.NKV)) * heads.HS;
    //} return BLANK;
}
// scores (NH, T, T): [h][t][s] = query of head h at token t, times its key at token s, summed over HS, / sqrt(HS), for s <= t; what comes later is not seen, and its score is 0 here. qkv (T, width)
void scores_forward(float* scores, const float* qkv, int T, Heads heads) {
    const int width = (heads.NH + 2 * heads.NKV) * heads.HS;
    const float scale = 1 / sqrtf((float)heads.HS);
    for (int h = 0; h < heads.NH; h++)
        for (int t = 0; t < T; t++)
            for (int s = 0; s < T; s++) {
                const float *q = qkv + t * width + query_at(h, heads), *k = qkv + s * width + key_at(h, heads);
                float sum = 0;
                if (s <= t) {
                    //{ the product of q and k, scaled
                    for (int i = 0; i < heads.HS; i++) sum += q[i] * k[i];
                    sum *= scale;
                    //} sum = BLANK;
                }
                scores[(h * T + t) * T + s] = sum;
            }
}

// ---- 8. grouped queries, backward
// dqkv +=   (T, width), dscores (NH, T, T). What the forward reads more than once, the backward sums: a key is read by NH / NKV heads of queries, from its own token on.
void scores_backward(float* dqkv, const float* dscores, const float* qkv, int T, Heads heads) {
    const int width = (heads.NH + 2 * heads.NKV) * heads.HS;
    const float scale = 1 / sqrtf((float)heads.HS);
    for (int h = 0; h < heads.NH; h++)
        for (int t = 0; t < T; t++)
            for (int s = 0; s <= t; s++) {
                const float d = dscores[(h * T + t) * T + s];
                //{ what this score adds to the gradients of its query and of its key
                const int q = t * width + query_at(h, heads), k = s * width + key_at(h, heads);
                for (int i = 0; i < heads.HS; i++) {
                    dqkv[q + i] += d * scale * qkv[k + i];
                    dqkv[k + i] += d * scale * qkv[q + i];
                }
                //} BLANK;
            }
}

// ---- 9. longer contexts
// Llama 3.1's frequency in the place of w. With the wavelength l = 2 pi / w in positions: w / factor where l > original / low; w where l < original / high; between the two (1 - smooth) w / factor + smooth w, with
//     smooth = (original / l - low) / (high - low), which goes from 0 to 1
float scaled(float w, float factor, float low, float high, float original) {
    //{ all three cases
    const float wavelength = 2 * 3.14159265f / w;
    if (wavelength > original / low) return w / factor;
    if (wavelength < original / high) return w;
    const float smooth = (original / wavelength - low) / (high - low);
    return (1 - smooth) * w / factor + smooth * w;
    //} return BLANK;
}
