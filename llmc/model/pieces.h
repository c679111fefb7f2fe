// pieces.h: what ranks send each other of a flat buffer that is cut into pieces by a Partition.
#pragma once
#include <vector>
#include "../comm/comm.h"
#include "partition.h"

// Of a bucket, each other rank's piece of what this one has.
template <class X> std::vector<Message> pieces_for_others(const Partition& partition, const Bucket& bucket, int rank, X* flat) {
    std::vector<Message> messages;
    for (int peer = 0; peer < partition.world; peer++) {
        const Range piece = partition.piece(bucket, peer);
        if (peer != rank && piece.size()) messages.push_back({peer, flat + piece.begin, piece.size() * sizeof(X)});
    }
    return messages;
}

// Of a bucket, this rank's piece of what each other one has: received (world - 1, piece).
template <class X> std::vector<Message> pieces_of_others(const Partition& partition, const Bucket& bucket, int rank, X* received) {
    std::vector<Message> messages;
    const size_t n = partition.piece(bucket, rank).size();
    for (int peer = 0, at = 0; peer < partition.world; peer++)
        if (peer != rank && n) messages.push_back({peer, received + (size_t)at++ * n, n * sizeof(X)});
    return messages;
}

// Every rank's own pieces go to all the others, in place.
template <class X> void gather_pieces(const Partition& partition, const Comm& comm, X* flat, stream_t stream) {
    for (const Bucket& bucket : partition.buckets) {
        std::vector<Message> sends, receives;
        const Range mine = partition.piece(bucket, comm.rank);
        for (int peer = 0; peer < partition.world; peer++) {
            if (peer == comm.rank) continue;
            const Range theirs = partition.piece(bucket, peer);
            if (mine.size()) sends.push_back({peer, flat + mine.begin, mine.size() * sizeof(X)});
            if (theirs.size()) receives.push_back({peer, flat + theirs.begin, theirs.size() * sizeof(X)});
        }
        comm.exchange(sends, receives, stream);
    }
}
