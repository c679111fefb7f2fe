// Gradients whose values are known, added over ranks, in each ZeRO stage: every sum to the bit, against the tree as a recursion.
#include "../../llmc/model/reduce.h"
#include "../gradients_test.h"
#include "ranks_test.h"

namespace {
const Config SMALL{.max_T = 16, .V = 131, .L = 3, .NH = 2, .C = 32};

struct Case {
    int world, zero;
    bool bf16_travels = false;
};
std::vector<float> gradients_of(int rank) {
    Random r((uint64_t)(100 + rank));
    return normal_values<float>(r, ParameterList(SMALL).elements);
}
using Sums = std::vector<float>;

// Each element's sum as its owner makes it: what comes from others was rounded, if bf16 travels.
Sums expected_sums(const Case& c, const Partition& partition) {
    Sums sums(ParameterList(SMALL).elements);
    for (int owner = 0; owner < c.world; owner++) {
        std::vector<Sums> parts;
        for (int r = 0; r < c.world; r++) {
            parts.push_back(gradients_of(r));
            if (c.bf16_travels && r != owner) for (float& x : parts.back()) x = (float)bf16(x);
        }
        for (const Bucket& b : partition.buckets)
            for (size_t i = partition.piece(b, owner).begin; i < partition.piece(b, owner).end; i++) sums[i] = tree_sum(parts, 0, parts.size(), i);
    }
    return sums;
}

// Of all layers, from the last one on, as the backward pass makes them; then the sums that this rank has, and of their squares.
void reduce_and_check(const Case& c, const Comm& comm) {
    choose_threads(1, 1);  // of each of more ranks than cores
    const Sums mine = gradients_of(comm.rank);
    Model<float> model(SMALL, {.B = 1, .T = 8, .rank = comm.rank, .world = c.world, .zero = c.zero, .leaves = c.world, .exchange_bf16 = c.bf16_travels});
    model.comm = comm;
    model.allocate();
    const Partition& partition = model.partition;
    std::vector<int> layers = {WHOLE_MODEL};
    for (int l = 0; l < SMALL.L; l++) layers.insert(layers.begin(), l);
    for (int layer : layers) {
        for (const Bucket& b : partition.buckets)
            for (size_t i = partition.range_of(b).begin; b.layer == layer && i < partition.range_of(b).end; i++) *model.made_at(i) = mine[i];
        reduce_gradients(model, layer, 0);
    }
    finish_reduction(model);
    const Sums sums = expected_sums(c, partition);
    for (const OwnPiece& own : model.own_pieces)
        for (int owner = 0; owner < c.world; owner++) {
            if (c.zero > 0 && owner != comm.rank) continue;
            const Range piece = partition.piece(own.bucket, owner);
            for (size_t i = piece.begin; i < piece.end; i++) {
                const float expected = c.zero == 0 && c.bf16_travels ? (float)bf16(sums[i]) : sums[i];  // stage 0: as the others get it
                const float sum = c.zero < 2 ? model.gradients(0)[i] : model.gradients(0)[own.at + (i - piece.begin)];
                if (memcmp(&sum, &expected, sizeof sum)) die("stage %d, rank %d: element %zu of rank %d: %.9g, expected %.9g", c.zero, comm.rank, i, owner, sum, expected);
            }
        }
    // sums of squares in the order of memory, each of its own chunk
    const std::vector<unsigned> order = partition.order_of_sums(1, model.sums_of_rank(), c.zero >= 2);
    const std::vector<Chunk> chunks = partition.chunk_list();
    for (size_t k = 0; k < chunks.size(); k++) {
        double exact = 0;
        for (size_t i = chunks[k].offset; i < chunks[k].offset + chunks[k].count; i++) exact += (double)sums[i] * (double)sums[i];
        const double made = model.sums[order[(size_t)c.world + k]];
        if (!(std::fabs(made - exact) <= exact * (double)CHUNK * 0x1p-53)) die("stage %d, rank %d: squares of chunk %zu: %.17g, expected %.17g", c.zero, comm.rank, k, made, exact);
    }
}
void check(const Case& c) {
    for (const Outcome& o : run_ranks(c.world, 30, [&](const Comm& comm) { reduce_and_check(c, comm); }))
        if (o.code) FAIL("%d ranks, stage %d, %s travels: exit code %d: %s", c.world, c.zero, c.bf16_travels ? "bf16" : "fp32", o.code, o.output.c_str());
}
}  // namespace

TEST(reduce_is_the_tree) {
    for (int world : {2, 3, 4, 8})
        for (int zero = 0; zero <= 3; zero++) check({world, zero});
}

// Rounded on their way, added in fp32: an addend of this rank itself is whole, and no sum is rounded but those that go to all.
TEST(reduce_in_bf16_adds_in_fp32) {
    for (int world : {2, 3, 8})
        for (int zero = 0; zero <= 2; zero++) check({world, zero, true});
}
