// Gradients whose values are known, added over ranks, in each ZeRO stage, on one node and several: every sum to the bit, against the tree as a recursion; and
// how many bytes that takes between nodes.
#include <numeric>
#include "../../llmc/comm/open.h"
#include "../../llmc/model/gather.h"
#include "../../llmc/model/reduce.h"
#include "../gradients_test.h"
#include "ranks_test.h"

namespace {
const Config SMALL{.max_T = 16, .V = 131, .L = 3, .NH = 2, .C = 32};

struct Case { int zero, per_node; bool bf16_travels; int rounds = 1; };  // from stage 2 on: leaves of each rank
using Values = std::vector<float>;
Values gradients_of(int leaf) {
    Random r((uint64_t)(100 + leaf));
    return normal_values<float>(r, ParameterList(SMALL).elements);
}

// The sum of ranks first .. first + n, of which `whole` alone has not been rounded on its way.
Values add(const std::vector<Values>& ranks, int first, int n, int whole, bool rounds) {
    std::vector<Values> parts(ranks.begin() + first, ranks.begin() + first + n);
    for (int r = 0; r < n; r++) if (rounds && first + r != whole) for (float& x : parts[(size_t)r]) x = (float)bf16(x);
    Values sum(parts[0].size());
    for (size_t i = 0; i < sum.size(); i++) sum[i] = tree_sum(parts, 0, parts.size(), i);
    return sum;
}
// Each element's sum as its owner makes it: of its node, what its neighbours send; then what the other nodes have added and send. Of several rounds: the tree of
// all leaves, as one rank makes it.
Values expected_sums(const Case& c, const Partition& partition, int world) {
    std::vector<Values> ranks;
    for (int r = 0; r < world * c.rounds; r++) ranks.push_back(gradients_of(r));
    if (c.rounds > 1) return add(ranks, 0, world * c.rounds, 0, false);
    const int G = partition.per_node;
    Values sums(ranks[0].size());
    for (int owner = 0; owner < world; owner++) {
        std::vector<Values> nodes;
        for (int m = 0; m < world / G; m++) nodes.push_back(add(ranks, m * G, G, m * G + owner % G, c.bf16_travels));
        const Values all = add(nodes, 0, world / G, owner / G, c.bf16_travels);
        for (const Bucket& b : partition.buckets)
            for (size_t i = partition.piece(b, owner).begin; i < partition.piece(b, owner).end; i++) sums[i] = all[i];
    }
    return sums;
}

// Counts what goes to other nodes.
struct CountingTransport : Transport {
    const std::shared_ptr<Transport> inner;
    const int node, per_node;
    size_t to_other_nodes = 0;
    CountingTransport(std::shared_ptr<Transport> t, int rank, int ranks_of_node) : inner(std::move(t)), node(rank / ranks_of_node), per_node(ranks_of_node) {}
    void all_gather_host(void* all, size_t bytes) override { inner->all_gather_host(all, bytes); }
    void exchange(const std::vector<Message>& sends, const std::vector<Message>& receives, stream_t stream) override {
        for (const Message& m : sends) to_other_nodes += (m.peer / per_node != node) * m.bytes;
        inner->exchange(sends, receives, stream);
    }
    void all_gather(void* all, size_t bytes, stream_t stream) override { inner->all_gather(all, bytes, stream); }
    void leave() override {}
};

// Of all layers, from the last one on, as the backward pass makes them; then the sums that this rank has, and of their squares.
void reduce_and_check(const Case& c, Comm comm, int real_per_node) {
    const auto counting = std::make_shared<CountingTransport>(comm.transport, comm.rank, real_per_node);
    comm.transport = counting;
    Model<float> model(SMALL, {.B = 1, .T = 8, .rank = comm.rank, .world = comm.world, .zero = c.zero, .per_node = c.per_node, .leaves = comm.world * c.rounds, .exchange_bf16 = c.bf16_travels, .separate_buffers = true});
    model.comm = comm;
    model.allocate();
    const Partition& partition = model.partition;
    std::vector<int> layers = {WHOLE_MODEL};
    for (int l = 0; l < SMALL.L; l++) layers.insert(layers.begin(), l);
    for (int round = 0; round < c.rounds; round++) {
        const Values mine = gradients_of(round * comm.world + comm.rank);
        for (int layer : layers) {
            for (const Bucket& b : partition.buckets)
                for (size_t i = partition.range_of(b).begin; b.layer == layer && i < partition.range_of(b).end; i++) *model.made_at(i) = mine[i];
            reduce_gradients(model, layer, round);
        }
    }
    const size_t sent = counting->to_other_nodes;
    finish_reduction(model);
    const std::string what = format("stage %d, %d of a node, rank %d", c.zero, partition.per_node, comm.rank);
    const Values sums = expected_sums(c, partition, comm.world);
    for (const OwnPiece& own : model.own_pieces)
        for (int owner = 0; owner < comm.world; owner++) {
            if (c.zero > 0 && owner != comm.rank) continue;
            const Range piece = partition.piece(own.bucket, owner);
            for (size_t i = piece.begin; i < piece.end; i++) {
                const float expected = c.zero == 0 && c.bf16_travels ? (float)bf16(sums[i]) : sums[i];  // stage 0: as the others get it
                const float sum = c.zero < 2 ? model.gradients(0)[i] : model.gradients(0)[own.at + (i - piece.begin)];
                if (memcmp(&sum, &expected, sizeof sum)) die("%s: element %zu of rank %d: %.9g, expected %.9g", what.c_str(), i, owner, sum, expected);
            }
        }
    // sums of squares in the order of memory, each of its own chunk
    const std::vector<unsigned> order = partition.order_of_sums((size_t)c.rounds, model.sums_of_rank(), c.zero >= 2);
    const std::vector<Chunk> chunks = partition.chunk_list();
    for (size_t k = 0; k < chunks.size(); k++) {
        double exact = 0;
        for (size_t i = chunks[k].offset; i < chunks[k].offset + chunks[k].count; i++) exact += (double)sums[i] * (double)sums[i];
        const double made = model.sums[order[(size_t)model.options.leaves + k]];
        if (!(std::fabs(made - exact) <= exact * (double)CHUNK * 0x1p-53)) die("%s: squares of chunk %zu: %.17g, expected %.17g", what.c_str(), k, made, exact);
    }
    // Of n elements all ranks together send (M - 1) n to other nodes in two levels, as each node has added them; in one G times as many.
    std::vector<size_t> all_sent((size_t)comm.world, sent);
    comm.all_gather(all_sent);
    const size_t n = partition.range_of({0, partition.chunks}).size(), M = (size_t)(comm.world / real_per_node), G = (size_t)(c.per_node ? 1 : real_per_node);
    const size_t bytes = std::accumulate(all_sent.begin(), all_sent.end(), (size_t)0), expected = (M - 1) * n * G * (c.bf16_travels ? 2 : 4) * (size_t)c.rounds;
    if (c.zero > 0 && bytes != expected) die("%s: %zu bytes to other nodes, expected %zu", what.c_str(), bytes, expected);
}

// Weights of which each rank has its own come to all, layer by layer.
void gather_and_check(const Case& c, const Comm& comm) {
    const Values weights = gradients_of(99);
    Model<float> model(SMALL, {.B = 1, .T = 8, .rank = comm.rank, .world = comm.world, .zero = c.zero, .per_node = c.per_node, .leaves = comm.world});
    model.comm = comm;
    model.allocate();
    for (const OwnPiece& own : model.own_pieces)
        for (size_t i = own.range.begin; i < own.range.end; i++) (c.zero < 3 ? model.params[i] : model.param_shard[own.at + (i - own.range.begin)]) = weights[i];
    for (int layer = WHOLE_MODEL; layer < SMALL.L; layer++) {
        gather_layer(model, layer);
        for (const Bucket& b : model.partition.buckets)
            for (size_t i = model.partition.range_of(b).begin; b.layer == layer && i < model.partition.range_of(b).end; i++)
                if (*model.weights_at(i) != weights[i]) die("stage %d, rank %d: weight %zu: %.9g, expected %.9g", c.zero, comm.rank, i, *model.weights_at(i), weights[i]);
    }
}

void check(int world, int real_per_node, const std::vector<Case>& cases) {
    const std::vector<Outcome> outcomes = run_ranks(world, 30, [&](const Comm& comm) {
        choose_threads(1, 1);  // of each of more ranks than cores
        for (const Case& c : cases) {
            reduce_and_check(c, comm, real_per_node);
            if (c.zero > 0 && !c.bf16_travels) gather_and_check(c, comm);
        }
    });
    for (const Outcome& o : outcomes) if (o.code) FAIL("%d ranks: exit code %d: %s", world, o.code, o.output.c_str());
}
}  // namespace

TEST(reduce_is_the_tree) {
    check(2, 2, {{1, 0, false}});
    check(3, 3, {{0, 0, false}, {1, 0, false}, {2, 0, false}, {3, 0, false}});
    check(8, 8, {{1, 0, false}});
}

// Ranks take turns at the micro-batches, each of which is a leaf; what those of a number that is no power of two make in a round are several nodes of the tree.
TEST(reduce_in_turns_is_the_tree) {
    check(2, 2, {{2, 0, false, 3}});
    check(3, 3, {{2, 0, false, 2}, {3, 0, false, 3}, {2, 0, false, 4}, {2, 0, false, 5}, {3, 0, false, 11}});
    check(5, 5, {{2, 0, false, 3}, {3, 0, false, 7}});
    check(6, 2, {{2, 2, false, 2}, {3, 2, false, 5}, {3, 0, false, 3}});
}
// So many shards as some subtree needs, and no more.
TEST(reduce_in_turns_keeps_few_shards) {
    const auto shards = [](int world, int per_node, int rounds) {
        const Model<float> model(SMALL, {.B = 1, .T = 8, .world = world, .zero = 2, .per_node = per_node, .leaves = world * rounds});
        return (int)((model.device.bytes_of("gradients") / sizeof(float) - model.in_use.elements) / model.partition.most_owned_elements());
    };
    EXPECT_EQ(shards(3, 0, 1), 1);
    EXPECT_EQ(shards(3, 0, 2), 3);  // 0 1 | 2 || 3 | 4 5: of 0 .. 3 and 4 5, and what is added: before the fourth leaf two wait
    EXPECT_EQ(shards(6, 0, 2), 3);  // the same of pairs
    EXPECT_EQ(shards(6, 2, 2), 3);
    EXPECT_EQ(shards(8, 0, 2), 2);
    EXPECT_EQ(shards(5, 0, 1), 1);
    EXPECT_EQ(shards(3, 0, 5), 4);
    EXPECT_EQ(shards(7, 0, 2), 4);  // 0-3 | 4 5 | 6 || 7 | 8-11 | 12 13: before the eighth leaf three wait
}

// Rounded on their way, added in fp32: an addend of this rank itself is whole, and no sum is rounded but those that go to all.
TEST(reduce_in_bf16_adds_in_fp32) { check(3, 3, {{0, 0, true}, {1, 0, true}, {2, 0, true}}); }

// Two or three nodes: the same sums, of which fewer bytes go from node to node.
TEST(reduce_in_two_levels) {
    check(4, 2, {{0, 2, false}, {1, 2, false}, {2, 2, false}, {3, 2, false}, {0, 2, true}, {1, 2, true}, {1, 0, false}});
    check(6, 2, {{1, 2, false}});
    check(8, 4, {{1, 4, false}});
}

// Several nodes of equal size, a power of two, filled one after the other; else all ranks add together.
TEST(reduce_in_two_levels_where_nodes_are_equal) {
    const auto found = [](int world, int expected, const std::vector<int>& local_ranks, const std::vector<int>& local_worlds) {
        const std::vector<Outcome> outcomes = run_ranks(world, 30, [&](Comm comm) {
            comm.local_rank = local_ranks[(size_t)comm.rank], comm.local_world = local_worlds[(size_t)comm.rank];
            if (const int G = ranks_of_each_node(comm); G != expected) die("%d, expected %d", G, expected);
        });
        for (const Outcome& o : outcomes) if (o.code) FAIL("%d ranks: exit code %d: %s", world, o.code, o.output.c_str());
    };
    found(4, 2, {0, 1, 0, 1}, {2, 2, 2, 2});
    found(4, 0, {0, 0, 1, 1}, {2, 2, 2, 2});  // in turn
    found(4, 0, {0, 1, 2, 3}, {4, 4, 4, 4});  // one node
    found(4, 0, {0, 0, 0, 0}, {1, 1, 1, 1});  // nodes of one
    found(4, 0, {0, 1, 2, 0}, {3, 3, 3, 1});
    found(6, 0, {0, 1, 2, 0, 1, 2}, {3, 3, 3, 3, 3, 3});  // three: what a node adds is no node of the tree
}
