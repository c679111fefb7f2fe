// Shapes and memory, part by part: doc/learn/shapes.md explains each. Fill in what says BLANK, in as many lines as you like; `make learn-shapes` says how far it is.

// ---- 1. the number of an element
// Of element (b, t, c) in a tensor (B, T, C).
size_t number_of(int b, int t, int c, int B, int T, int C) {
    //{ the last index runs fastest
    return ((size_t)b * T + t) * C + c;
    //} return BLANK;
}

// ---- 2. which head is where
// The number of channel i of head h in qkv (B, T, 3C), at token t of row b: of its query if part is 0, its key if 1, its value if 2. C = NH * HS.
size_t in_qkv(int part, int b, int t, int h, int i, int B, int T, int NH, int HS) {
    //{ queries of all heads come first, then keys, then values
    const size_t C = (size_t)NH * HS;
    return (((size_t)b * T + t) * 3 + part) * C + h * HS + i;
    //} return BLANK;
}

// ---- 3. parameters
// Of a GPT-2: wte (V, C), wpe (max_T, C), L blocks, a last LayerNorm. A block: two LayerNorms, and linear layers from C to 3C, C to C, C to 4C, 4C to C, each with a bias.
size_t parameters(size_t V, size_t max_T, size_t L, size_t C) {
    //{ a linear layer from C to OC has OC rows of C weights, and OC biases
    const size_t norm = 2 * C, block = 2 * norm + 3 * C * C + 3 * C + C * C + C + 4 * C * C + 4 * C + 4 * C * C + C;
    return V * C + max_T * C + L * block + norm;
    //} return BLANK;
}

// ---- 4. heads apart
// out (B, NH, T, HS) = the keys of qkv (B, T, 3C)
void keys_of(float* out, const float* qkv, int B, int T, int NH, int HS) {
    //{ four loops; the element's place in out by the rule of part 1, with four indices
    for (int b = 0; b < B; b++)
        for (int h = 0; h < NH; h++)
            for (int t = 0; t < T; t++)
                for (int i = 0; i < HS; i++) out[(((size_t)b * NH + h) * T + t) * HS + i] = qkv[in_qkv(1, b, t, h, i, B, T, NH, HS)];
    //} BLANK;
}
