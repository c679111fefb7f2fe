// Shapes and memory, part by part: doc/learn/shapes.md explains each. Fill in what says BLANK, in as many lines as you like; `make learn-shapes` says how far it is.

// ---- 1. the number of an element
// Of element (b, t, c) in a tensor (B, T, C).
size_t number_of(int b, int t, int c, int B, int T, int C) {
    return BLANK;  // the last index runs fastest
}

// ---- 2. which head is where
// The number of channel i of head h in qkv (B, T, 3C), at token t of row b: of its query if part is 0, its key if 1, its value if 2. C = NH * HS.
size_t in_qkv(int part, int b, int t, int h, int i, int B, int T, int NH, int HS) {
    return BLANK;  // queries of all heads come first, then keys, then values
}

// ---- 3. parameters
// Of a GPT-2: wte (V, C), wpe (max_T, C), L blocks, a last LayerNorm. A block: two LayerNorms, and linear layers from C to 3C, C to C, C to 4C, 4C to C, each with a bias.
size_t parameters(size_t V, size_t max_T, size_t L, size_t C) {
    return BLANK;  // a linear layer from C to OC has OC rows of C weights, and OC biases
}

// ---- 4. heads apart
// out (B, NH, T, HS) = the keys of qkv (B, T, 3C)
void keys_of(float* out, const float* qkv, int B, int T, int NH, int HS) {
    BLANK;  // four loops; the element's place in out by the rule of part 1, with four indices
}
