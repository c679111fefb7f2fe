// Causal attention of one head in C++ and in CUDA, part by part: doc/learn/attention.md explains each. Fill in what says BLANK, in as many lines as you like; `make learn-attention` says how far it is.
//     s[t][u] = scale * (row t of q) . (row u of k),   scale = 1 / sqrt(HS)      for u <= t; later keys are masked
//     p[t][u] = exp(s[t][u]) / sum over u' <= t of exp(s[t][u']),                out[t] = sum over u <= t of p[t][u] * v[u]
// q, k, v, out and their gradients are (T, HS), row after row: element d of row t of q is q[t * HS + d]. The grader's N is T, and its C is HS.
#include <cfloat>

// ---- 1. forward in C++, with the T x T probabilities kept
// probs is (T, T), for the backward: probs[t * T + u]. Nobody has set it or out to 0.
void forward_cpp(float* out, float* probs, const float* q, const float* k, const float* v, int T, int HS) {
    const float scale = 1 / sqrtf((float)HS);
    for (int t = 0; t < T; t++) {
        float* p = probs + t * T;
        float row_max = -FLT_MAX, row_sum = 0;
        //{ scores of the keys u <= t into p[u], scaled; their largest into row_max
        for (int u = 0; u <= t; u++) {
            float s = 0;
            for (int d = 0; d < HS; d++) s += q[t * HS + d] * k[u * HS + d];
            p[u] = s * scale;
            row_max = fmaxf(row_max, p[u]);
        }
        //} BLANK;
        //{ p[u] becomes the probability; 0 for every masked key, u > t
        for (int u = 0; u <= t; u++) p[u] = expf(p[u] - row_max), row_sum += p[u];
        for (int u = 0; u <= t; u++) p[u] /= row_sum;
        for (int u = t + 1; u < T; u++) p[u] = 0;
        //} BLANK;
        //{ row t of out
        for (int d = 0; d < HS; d++) {
            float sum = 0;
            for (int u = 0; u <= t; u++) sum += p[u] * v[u * HS + d];
            out[t * HS + d] = sum;
        }
        //} BLANK;
    }
}

// ---- 2. backward in C++, with the probabilities of part 1
void backward_cpp(float* dq, float* dk, float* dv, const float* dout, const float* probs, const float* q, const float* k, const float* v, int T, int HS) {
    const float scale = 1 / sqrtf((float)HS);
    for (int i = 0; i < T * HS; i++) dq[i] = dk[i] = dv[i] = 0;
    for (int t = 0; t < T; t++) {
        const float* p = probs + t * T;
        float delta = 0;  // sum over u of p[u] * dp[u]
        //{ delta, with dp[u] = (row t of dout) . (row u of v)
        for (int u = 0; u <= t; u++)
            for (int d = 0; d < HS; d++) delta += p[u] * dout[t * HS + d] * v[u * HS + d];
        //} BLANK;
        for (int u = 0; u <= t; u++) {
            //{ the gradient of the score: ds = p[u] * (dp[u] - delta); dp[u] is computed again, in lines before this one
            float dp = 0;
            for (int d = 0; d < HS; d++) dp += dout[t * HS + d] * v[u * HS + d];
            const float ds = p[u] * (dp - delta);
            //} const float ds = BLANK;
            //{ what this pair adds to row t of dq, to row u of dk and to row u of dv
            for (int d = 0; d < HS; d++) {
                dq[t * HS + d] += scale * ds * k[u * HS + d];
                dk[u * HS + d] += scale * ds * q[t * HS + d];
                dv[u * HS + d] += p[u] * dout[t * HS + d];
            }
            //} BLANK;
        }
    }
}

// ---- 3. forward in C++ by online softmax: no T x T
// lse is (T): the log of the sum of e^s over the row's keys. out is used for what is not yet divided.
void online_cpp(float* out, float* lse, const float* q, const float* k, const float* v, int T, int HS) {
    const float scale = 1 / sqrtf((float)HS);
    for (int t = 0; t < T; t++) {
        float* o = out + t * HS;
        for (int d = 0; d < HS; d++) o[d] = 0;
        float row_max = -FLT_MAX, row_sum = 0;  // not -infinity: -infinity - -infinity is NaN
        for (int u = 0; u <= t; u++) {
            float s = 0;
            for (int d = 0; d < HS; d++) s += q[t * HS + d] * k[u * HS + d];
            s *= scale;
            //{ the new maximum; what rescales the old sum and the old o; this key's share of both
            const float larger = fmaxf(row_max, s), rescale = expf(row_max - larger), p = expf(s - larger);
            row_max = larger, row_sum = row_sum * rescale + p;
            for (int d = 0; d < HS; d++) o[d] = o[d] * rescale + p * v[u * HS + d];
            //} BLANK;
        }
        //{ finalise: o is divided by row_sum; lse[t]
        for (int d = 0; d < HS; d++) o[d] /= row_sum;
        lse[t] = row_max + logf(row_sum);
        //} BLANK;
    }
}

// ---- 4. CUDA, naive: a thread a row, T x T scores kept
// scores has room for (T, T), and nobody reads it afterwards: a thread may leave in its row what it likes.
__global__ void naive_kernel(float* out, float* scores, const float* q, const float* k, const float* v, int T, int HS, float scale) {
    //{ this thread's row; a thread behind the last one returns
    const int t = blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= T) return;
    //} const int t = BLANK;
    float* p = scores + t * T;
    //{ as in part 1, for this row; of p only the places up to t are needed
    float row_max = -FLT_MAX, row_sum = 0;
    for (int u = 0; u <= t; u++) {
        float s = 0;
        for (int d = 0; d < HS; d++) s += q[t * HS + d] * k[u * HS + d];
        p[u] = s * scale;
        row_max = fmaxf(row_max, s * scale);
    }
    for (int u = 0; u <= t; u++) {
        const float e = expf(p[u] - row_max);
        p[u] = e, row_sum += e;
    }
    for (int d = 0; d < HS; d++) {
        float sum = 0;
        for (int u = 0; u <= t; u++) sum += p[u] * v[u * HS + d];
        out[t * HS + d] = sum / row_sum;
    }
    //} BLANK;
}
void forward_naive(float* out, float* scores, const float* q, const float* k, const float* v, int T, int HS, stream_t stream) {
    launch(naive_kernel, {(unsigned)ceil_div(T, 64), 64}, stream, out, scores, q, k, v, T, HS, 1 / sqrtf((float)HS));
}

// ---- 5. CUDA, online softmax: a warp a row
constexpr int WARPS = 8;     // rows a block, a warp each
constexpr int PER_LANE = 4;  // a row of HS floats in the registers of a warp: x[i] of lane l is element l + i * WARP. So HS is at most 128
// What lies behind the row's end is 0, and adds 0 to a dot product.
__device__ void load_row(float (&x)[PER_LANE], const float* row, int HS) {
    const int lane = threadIdx.x % WARP;
    for (int i = 0; i < PER_LANE; i++) x[i] = lane + i * WARP < HS ? row[lane + i * WARP] : 0;
}
__device__ void store_row(float* row, const float (&x)[PER_LANE], int HS) {
    const int lane = threadIdx.x % WARP;
    for (int i = 0; i < PER_LANE; i++) if (lane + i * WARP < HS) row[lane + i * WARP] = x[i];
}
// a . b of two rows that the warp holds; every lane gets it. warp_sum(x) gives every lane the sum of the lanes' x.
__device__ float dot(const float (&a)[PER_LANE], const float (&b)[PER_LANE]) {
    //{ the lane's own products, then the sum over the warp
    float sum = 0;
    for (int i = 0; i < PER_LANE; i++) sum += a[i] * b[i];
    return warp_sum(sum);
    //} return BLANK;
}
__global__ void warp_kernel(float* out, float* lse, const float* q, const float* k, const float* v, int T, int HS, float scale) {
    const int lane = threadIdx.x % WARP, t = blockIdx.x * WARPS + threadIdx.x / WARP;
    if (t >= T) return;  // the whole warp
    float query[PER_LANE], o[PER_LANE] = {}, row_max = -FLT_MAX, row_sum = 0;
    load_row(query, q + t * HS, HS);
    for (int u = 0; u <= t; u++) {
        float key[PER_LANE], value[PER_LANE];
        //{ load them; then part 3's step, of which each lane has the same row_max and row_sum, and its own elements of o
        load_row(key, k + u * HS, HS);
        load_row(value, v + u * HS, HS);
        const float s = dot(query, key) * scale;
        const float larger = fmaxf(row_max, s), rescale = expf(row_max - larger), p = expf(s - larger);
        row_max = larger, row_sum = row_sum * rescale + p;
        for (int i = 0; i < PER_LANE; i++) o[i] = o[i] * rescale + p * value[i];
        //} BLANK;
    }
    //{ finalise: divide and store the row; one lane stores lse
    for (int i = 0; i < PER_LANE; i++) o[i] /= row_sum;
    store_row(out + t * HS, o, HS);
    if (lane == 0) lse[t] = row_max + logf(row_sum);
    //} BLANK;
}
void forward_warp(float* out, float* lse, const float* q, const float* k, const float* v, int T, int HS, stream_t stream) {
    launch(warp_kernel, {(unsigned)ceil_div(T, WARPS), WARPS * WARP}, stream, out, lse, q, k, v, T, HS, 1 / sqrtf((float)HS));
}

// ---- 6. CUDA, flash attention: the block's queries share tiles of keys and values
// A block has WARPS queries, a warp each. For each tile of WARP keys: the block's threads copy it and its values to shared memory; then lane l of each warp has key l of the tile.
__global__ void tile_kernel(float* out, float* lse, const float* q, const float* k, const float* v, int T, int HS, float scale) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, t = blockIdx.x * WARPS + warp;
    //{ floats from one row of the tile to the next, here and in forward_tile: 32 lanes that read the same element of 32 rows must not meet in one bank
    const int stride = HS + 1;
    //} const int stride = BLANK;
    float* queries = (float*)dynamic_shared();       // (WARPS, HS): a row for each warp
    float* keys = queries + WARPS * HS;              // (WARP, stride)
    float* values = keys + WARP * stride;            // (WARP, HS)
    if (t < T) for (int d = lane; d < HS; d += WARP) queries[warp * HS + d] = q[t * HS + d];
    float o[PER_LANE] = {}, row_max = -FLT_MAX, row_sum = 0;
    const int last = min((int)(blockIdx.x + 1) * WARPS, T);  // keys from here on are seen by no query of the block
    for (int first = 0; first < last; first += WARP) {       // the tile's keys are first, first + 1, ...
        //{ all threads of the block copy rows of k and v, neighbouring threads neighbouring floats, none behind row last - 1; barriers before and behind, each with its why
        __syncthreads();  // sync: others still read the tile before this one
        for (int i = threadIdx.x; i < WARP * HS; i += WARPS * WARP) {
            const int row = i / HS, d = i % HS;
            if (first + row >= last) break;
            keys[row * stride + d] = k[(first + row) * HS + d];
            values[row * HS + d] = v[(first + row) * HS + d];
        }
        __syncthreads();  // sync: all of the tile is there
        //} BLANK;
        if (t >= T) continue;                          // no query: nothing to compute, but it copies its share of each tile and comes to the barriers
        const int visible = min(WARP, t + 1 - first);  // so many of the tile's keys this warp's query sees: at least one, as a block's queries do not lie across a tile's border
        float s = -FLT_MAX;
        //{ lane l's score is that of key l, if it is visible
        if (lane < visible) {
            float sum = 0;
            for (int d = 0; d < HS; d++) sum += queries[warp * HS + d] * keys[lane * stride + d];
            s = sum * scale;
        }
        //} BLANK;
        //{ one step of online softmax for all lanes' scores at once: the new maximum (warp_max), what the sums so far are multiplied by, this lane's p
        const float larger = fmaxf(row_max, warp_max(s)), rescale = expf(row_max - larger), p = expf(s - larger);
        //} const float larger = BLANK, rescale = BLANK, p = BLANK;
        //{ row_max, and row_sum with this tile's (warp_sum)
        row_max = larger, row_sum = row_sum * rescale + warp_sum(p);
        //} BLANK;
        //{ o, of which this lane has the elements lane + i * WARP below HS: rescale it, add p of key j times value j for each visible key. from_lane(p, j) is lane j's p, and all lanes must come to it: j is the outer loop, i the inner one
        for (int i = 0; i < PER_LANE; i++) o[i] *= rescale;
        for (int j = 0; j < visible; j++) {
            const float pj = from_lane(p, j);
            for (int i = 0; i < PER_LANE; i++)
                if (lane + i * WARP < HS) o[i] += pj * values[j * HS + lane + i * WARP];
        }
        //} BLANK;
    }
    if (t >= T) return;
    //{ finalise, as in part 5
    for (int i = 0; i < PER_LANE; i++) o[i] /= row_sum;
    store_row(out + t * HS, o, HS);
    if (lane == 0) lse[t] = row_max + logf(row_sum);
    //} BLANK;
}
void forward_tile(float* out, float* lse, const float* q, const float* k, const float* v, int T, int HS, stream_t stream) {
    //{ bytes of shared memory for queries, keys and values
    const size_t shared = (size_t)(WARPS * HS + WARP * (HS + 1) + WARP * HS) * sizeof(float);
    //} const size_t shared = BLANK;
    launch(tile_kernel, {(unsigned)ceil_div(T, WARPS), WARPS * WARP, shared}, stream, out, lse, q, k, v, T, HS, 1 / sqrtf((float)HS));
}

// ---- 7. CUDA, backward: probabilities again, from lse
// dq: a warp a query t, over the keys that it sees. delta, (T), is written here for the kernel below: delta[t] = (row t of dout) . (row t of out).
__global__ void dq_kernel(float* dq, float* delta, const float* dout, const float* out, const float* lse, const float* q, const float* k, const float* v, int T, int HS, float scale) {
    const int lane = threadIdx.x % WARP, t = blockIdx.x * WARPS + threadIdx.x / WARP;
    if (t >= T) return;
    float query[PER_LANE], dout_t[PER_LANE], out_t[PER_LANE], dquery[PER_LANE] = {};
    load_row(query, q + t * HS, HS), load_row(dout_t, dout + t * HS, HS), load_row(out_t, out + t * HS, HS);
    //{ delta of this row; one lane stores it
    const float delta_t = dot(dout_t, out_t), lse_t = lse[t];
    if (lane == 0) delta[t] = delta_t;
    //} const float delta_t = BLANK;
    for (int u = 0; u <= t; u++) {
        float key[PER_LANE], value[PER_LANE];
        load_row(key, k + u * HS, HS), load_row(value, v + u * HS, HS);
        //{ p from the score and lse, which is read before the loop; dp, ds; what dq gets
        const float p = expf(dot(query, key) * scale - lse_t), ds = p * (dot(dout_t, value) - delta_t);
        for (int i = 0; i < PER_LANE; i++) dquery[i] += scale * ds * key[i];
        //} BLANK;
    }
    store_row(dq + t * HS, dquery, HS);
}
// dk and dv: a warp a key u, over the queries that see it, so that each sum has one owner
__global__ void dkv_kernel(float* dk, float* dv, const float* delta, const float* dout, const float* lse, const float* q, const float* k, const float* v, int T, int HS, float scale) {
    const int u = blockIdx.x * WARPS + threadIdx.x / WARP;
    if (u >= T) return;
    float key[PER_LANE], value[PER_LANE], dkey[PER_LANE] = {}, dvalue[PER_LANE] = {};
    load_row(key, k + u * HS, HS), load_row(value, v + u * HS, HS);
    //{ over the queries t that see key u: p and ds as above, and what dkey and dvalue get
    for (int t = u; t < T; t++) {
        float query[PER_LANE], dout_t[PER_LANE];
        load_row(query, q + t * HS, HS), load_row(dout_t, dout + t * HS, HS);
        const float p = expf(dot(query, key) * scale - lse[t]), ds = p * (dot(dout_t, value) - delta[t]);
        for (int i = 0; i < PER_LANE; i++) dkey[i] += scale * ds * query[i], dvalue[i] += p * dout_t[i];
    }
    //} BLANK;
    store_row(dk + u * HS, dkey, HS), store_row(dv + u * HS, dvalue, HS);
}
// delta has room for T
void backward_cuda(float* dq, float* dk, float* dv, float* delta, const float* dout, const float* out, const float* lse, const float* q, const float* k, const float* v, int T, int HS, stream_t stream) {
    const float scale = 1 / sqrtf((float)HS);
    const Grid grid = {(unsigned)ceil_div(T, WARPS), WARPS * WARP};
    launch(dq_kernel, grid, stream, dq, delta, dout, out, lse, q, k, v, T, HS, scale);
    launch(dkv_kernel, grid, stream, dk, dv, delta, dout, lse, q, k, v, T, HS, scale);
}
