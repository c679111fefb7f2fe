// pieces.h: what ranks send each other of a bucket that is cut into pieces by a Partition.
//
// Where a run has several nodes, in two levels: first among the ranks of a node, each of which gets the part of all ranks of its local number; then
// among the ranks of equal local number, of that part. A rank's piece of W = G M, G of each of M nodes, is 1 / W of the bucket either way, but of n
// elements it sends (M - 1) / M n / G to other nodes and not (M - 1) / M n: what its node has added is sent once, not by each rank of it.
#pragma once
#include <vector>
#include "../comm/comm.h"
#include "partition.h"

// Ranks that exchange a bucket, or a part of it, among themselves: `ranks` of which this one is number `mine`, and the part that each is to have.
struct Level {
    std::vector<int> ranks;
    std::vector<Bucket> parts;
    size_t mine;
    Bucket own() const { return parts[mine]; }
};

// What is summed goes through them in this order, what is gathered in the other.
inline std::vector<Level> levels_of(const Partition& partition, const Bucket& bucket, int rank) {
    const int G = partition.per_node, M = partition.nodes, node = rank / G, local = rank % G;
    Level inside{{}, {}, (size_t)local}, between{{}, {}, (size_t)node};
    for (int g = 0; g < G; g++) inside.ranks.push_back(node * G + g), inside.parts.push_back(partition.part_of_local(bucket, g));
    for (int m = 0; m < M; m++) between.ranks.push_back(m * G + local), between.parts.push_back(partition.chunks_of(bucket, m * G + local));
    if (M == 1) return {inside};
    if (G == 1) return {between};
    return {inside, between};
}

// Each other rank's part of what this one has goes to it, and this rank's part of what each other one has comes to received (ranks - 1, part). first: the
// element that lies at `at`.
template <class X> void exchange_level(const Partition& partition, const Level& level, const Comm& comm, X* at, size_t first, X* received, stream_t stream) {
    std::vector<Message> sends, receives;
    const size_t n = partition.range_of(level.own()).size();
    for (size_t i = 0, slot = 0; i < level.ranks.size(); i++) {
        if (i == level.mine) continue;
        const Range theirs = partition.range_of(level.parts[i]);
        if (theirs.size()) sends.push_back({level.ranks[i], at + (theirs.begin - first), theirs.size() * sizeof(X)});
        if (n) receives.push_back({level.ranks[i], received + slot++ * n, n * sizeof(X)});
    }
    comm.exchange(sends, receives, stream);
}

// Every rank's own piece of the bucket, `mine`, goes to all the others, and theirs come to where they belong. Where `mine` does not lie in the bucket, it
// has been copied there, too.
template <class X> void gather_pieces(const Partition& partition, const Bucket& bucket, const Comm& comm, X* bucket_at, X* mine, stream_t stream) {
    const size_t begin = partition.begin_of(bucket.begin);
    const std::vector<Level> levels = levels_of(partition, bucket, comm.rank);
    for (size_t l = levels.size(); l-- > 0;) {
        const Level& level = levels[l];
        const Range own = partition.range_of(level.own());
        X* from = l + 1 == levels.size() ? mine : bucket_at + (own.begin - begin);
        std::vector<Message> sends, receives;
        for (size_t i = 0; i < level.ranks.size(); i++) {
            if (i == level.mine) continue;
            const Range theirs = partition.range_of(level.parts[i]);
            if (own.size()) sends.push_back({level.ranks[i], from, own.size() * sizeof(X)});
            if (theirs.size()) receives.push_back({level.ranks[i], bucket_at + (theirs.begin - begin), theirs.size() * sizeof(X)});
        }
        comm.exchange(sends, receives, stream);
    }
}
