// pieces.h: what ranks send each other of a bucket that is cut into pieces by a Partition. bucket_at: where its first element is in memory.
#pragma once
#include <vector>
#include "../comm/comm.h"
#include "partition.h"

// Each other rank's piece of what this one has goes to it, and this rank's piece of what each other one has comes to received (world - 1, piece).
template <class X> void exchange_pieces(const Partition& partition, const Bucket& bucket, const Comm& comm, X* bucket_at, X* received, stream_t stream) {
    std::vector<Message> sends, receives;
    const size_t begin = partition.begin_of(bucket.begin), n = partition.piece(bucket, comm.rank).size();
    for (int peer = 0, at = 0; peer < partition.world; peer++) {
        if (peer == comm.rank) continue;
        const Range theirs = partition.piece(bucket, peer);
        if (theirs.size()) sends.push_back({peer, bucket_at + (theirs.begin - begin), theirs.size() * sizeof(X)});
        if (n) receives.push_back({peer, received + (size_t)at++ * n, n * sizeof(X)});
    }
    comm.exchange(sends, receives, stream);
}

// Every rank's own piece, `mine`, goes to all the others, and theirs come to where they belong in the bucket.
template <class X> void gather_pieces(const Partition& partition, const Bucket& bucket, const Comm& comm, X* bucket_at, X* mine, stream_t stream) {
    std::vector<Message> sends, receives;
    const size_t begin = partition.begin_of(bucket.begin), n = partition.piece(bucket, comm.rank).size();
    for (int peer = 0; peer < partition.world; peer++) {
        if (peer == comm.rank) continue;
        const Range theirs = partition.piece(bucket, peer);
        if (n) sends.push_back({peer, mine, n * sizeof(X)});
        if (theirs.size()) receives.push_back({peer, bucket_at + (theirs.begin - begin), theirs.size() * sizeof(X)});
    }
    comm.exchange(sends, receives, stream);
}
