// Many GPUs, part by part, in C++: doc/learn/ranks.md explains each. Fill in what says BLANK, in as many lines as you like; `make learn-ranks` says how far it is.
// A rank is one of `world` GPUs; here all of them live in one program, and x[r] is what rank r has: n floats, as many on each rank. They are cut into `world` pieces, one for each rank.
#include <vector>
using Floats = std::vector<float>;
size_t begin_of(int piece, int world, size_t n) { return n * (size_t)piece / (size_t)world; }  // piece p is elements begin_of(p) .. begin_of(p + 1) - 1; not all are of one size

// Wires: rank r sends to its right neighbour, (r + 1) % world, and to nobody else. In a step all ranks send first; then each takes what was sent to it.
struct Ring {
    std::vector<Floats> to;  // what is on its way to each rank
    size_t bytes = 0;        // sent by all ranks so far
    explicit Ring(int world) : to((size_t)world) {}
    void send(int rank, const float* x, size_t n) { to[((size_t)rank + 1) % to.size()].assign(x, x + n), bytes += n * sizeof(float); }
    const Floats& received(int rank) const { return to[(size_t)rank]; }
};

// ---- 1. reduce-scatter, in a ring
// Afterwards piece r of x[r] is the sum of piece r over all ranks; what is in the other pieces does not matter. A piece goes once around: whoever gets it adds it to his own, and sends that in the next step.
void reduce_scatter(std::vector<Floats>& x, Ring& ring) {
    const int world = (int)x.size();
    const size_t n = x[0].size();
    for (int step = 0; step < world - 1; step++) {
        for (int r = 0; r < world; r++) {
            const int piece = BLANK;  // which piece rank r sends in this step, 0 to world - 1: in the last step, world - 2, its right neighbour must get the neighbour's own
            ring.send(r, x[r].data() + begin_of(piece, world, n), begin_of(piece + 1, world, n) - begin_of(piece, world, n));
        }
        for (int r = 0; r < world; r++) {
            const int piece = BLANK;  // which piece it has got: the one that its left neighbour, rank r - 1, has sent
            BLANK;  // each of received(r)'s floats is added to x[r]'s
        }
    }
}

// ---- 2. all-gather, in a ring
// Before, piece r of x[r] is right; afterwards all pieces are right on all ranks. A piece goes once around and is copied by everyone.
void all_gather(std::vector<Floats>& x, Ring& ring) {
    const int world = (int)x.size();
    const size_t n = x[0].size();
    BLANK;  // as in part 1: world - 1 steps; all send a piece, then all take the one that has come
}

// ---- 3. ZeRO: bytes held, and bytes sent
// Of a model with P parameters in bf16, trained by AdamW: weights of 2 bytes; gradients of 4; and master weights, first and second moments of 4 each. Stage 0 divides nothing among `world` ranks; stage 1 the last three, which
// are the optimizer's state; stage 2 the gradients too; stage 3 the weights too. What is divided takes 1 / world of its bytes on each rank; the memory in which a layer's weights and gradients are put together is left out.
double bytes_held(double P, double world, int stage) {
    return BLANK;  // on each rank
}
// In a step of `micro` micro-batches. A reduce-scatter or an all-gather of b bytes takes (world - 1) / world * b of each rank. Gradients are exchanged in 4 bytes. Stage 0 reduce-scatters gradients and gathers their sums, once a step; stage 1 reduce-scatters
// gradients and gathers weights, once; stage 2 reduce-scatters in each micro-batch and gathers weights once; stage 3 reduce-scatters, and gathers weights twice (for the forward, and for the backward), in each micro-batch.
double bytes_sent(double P, double world, int stage, double micro) {
    return BLANK;  // by each rank
}

// ---- 4. the tree of leaves
Floats sum_of(const Floats& left, const Floats& right) {  // element by element
    Floats s(left);
    for (size_t i = 0; i < s.size(); i++) s[i] += right[i];
    return s;
}
// Leaves 0, 1, 2, ... come one after the other and are added as a binary tree: (0 + 1), (2 + 3), then (0 + 1) + (2 + 3), and so on. Sums that cannot be added to anything yet wait, the one with the earliest leaves first: after leaves 0 to 6 three of them, of
// 0 to 3, of 4 and 5, and 6. When leaf number i has come, as many pairs are complete as i has 1s at its lower end in binary: none after leaf 4 (100), two after leaf 3 (11).
void add_leaf(std::vector<Floats>& waiting, int i, const Floats& leaf) {
    BLANK;  // the leaf is added to the last that wait, as often as a pair is complete; then it waits
}
// No leaf is left: what waits is added, from the last on: 4, 5 and then 6, then 0 to 3 and all that.
Floats all_of(std::vector<Floats> waiting) {
    return Floats{BLANK};  // the sum of all
}

// ---- 5. the same bits for any number of ranks
// leaves are the gradients of a step's micro-batches, in their order. Rank r of `world` makes leaves r * leaves.size() / world to (r + 1) * leaves.size() / world - 1. Both numbers are powers of two. Returns the sum, the same bits for every `world`.
// Ranks' sums are there on all ranks: who has sent what is parts 1 and 2's matter.
Floats gradient_of(const std::vector<Floats>& leaves, int world) {
    const int each = (int)leaves.size() / world;
    std::vector<Floats> ranks;
    for (int r = 0; r < world; r++) {
        BLANK;  // the sum of rank r's leaves, by part 4, goes to the end of ranks
    }
    return Floats{BLANK};  // the sum of the ranks' sums: they are nodes of the same tree
}
