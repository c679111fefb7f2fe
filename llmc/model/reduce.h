// reduce.h: gradients are added up over the ranks, by ZeRO's reduce-scatter, ours or the library's: a layer at a time, on a stream of their own, beside the backward pass of the
// layers before it. Every rank exchanges the same buckets in the same order.
//
// Up to stage 1 that is in the step's last micro-batch: each rank has made the sum of its leaves, which is a node of the tree. From stage 2 on no rank
// keeps whole gradients, and each micro-batch is a leaf: ranks take turns at them, so that what they make at a time is a node of the tree, of which
// each keeps its shard.
#pragma once
#include "model.h"
#include "pieces.h"

// The sum of a leaf's, or from stage 2 on of a leaf's of each rank, is in its buffer: elements at .. at + n are added to the subtrees that wait for
// them, at the end of a step to all that wait.
template <class F> void add_to_subtrees(Model<F>& model, int leaf, size_t at, size_t n, stream_t stream) {
    const bool last = leaf + 1 == model.leaves_of_rank();
    int buffer = waiting_subtrees(leaf);
    for (int bits = leaf; buffer > 0 && (last || bits & 1); bits >>= 1, buffer--) add_gradients(model.gradients(buffer - 1) + at, model.gradients(buffer) + at, n, stream);
}

// A bucket's gradients become their sum over the ranks: this one's piece, and in ZeRO stage 0 all of them. Each rank gets its piece from all the others
// and adds them up in fp32, in the order of the tree; or the library does all that, in an order of its own, and squares alone are left to be made.
template <class F> void add_over_ranks(Model<F>& model, const OwnPiece& own, float* bucket, double* squares) {
    const Partition& partition = model.partition;
    const Comm& comm = model.comm;
    const bool sums_to_all = model.options.zero == 0;
    const stream_t stream = model.comm_stream;
    const Range all = partition.range_of(own.bucket);
    const size_t first = own.range.begin, n = own.range.size(), n_chunks = own.chunks.end - own.chunks.begin;
    const Chunk* chunks = model.chunks + own.chunks.begin;
    float* mine = bucket + (first - all.begin);
    if (model.options.reduce == Reduce::LIBRARY) {
        const size_t share = partition.equal_share(all);
        if (sums_to_all) comm.all_reduce(bucket, all.size(), stream);
        else comm.reduce_scatter(bucket, share, all.size() - (size_t)comm.world * share, stream);
        return sum_gradients(mine, squares, model.received, 0, 1, chunks, n_chunks, first, n, stream);
    }
    const bool rounds = model.options.exchange_bf16;
    if (rounds) {
        cast_gradients(model.rounded, bucket, all.size(), stream);
        exchange_pieces(partition, own.bucket, comm, model.rounded, model.received_bf16, stream);
        cast_gradients(model.received, model.received_bf16, (size_t)(comm.world - 1) * n, stream);
    } else exchange_pieces(partition, own.bucket, comm, bucket, model.received, stream);
    sum_gradients(mine, squares, model.received, comm.rank, comm.world, chunks, n_chunks, first, n, stream);
    if (sums_to_all && rounds) {  // this rank has its own sums as the others get them
        bf16* mine_rounded = model.rounded + (first - all.begin);
        cast_gradients(mine_rounded, mine, n, stream);
        gather_pieces(partition, own.bucket, comm, model.rounded, mine_rounded, stream);
        cast_gradients(bucket, model.rounded, all.size(), stream);
    } else if (sums_to_all) gather_pieces(partition, own.bucket, comm, bucket, mine, stream);
}

// What the stream has done so far makes a layer's gradients, or those of the whole model's tensors, complete on this rank.
template <class F> void reduce_gradients(Model<F>& model, int layer, int leaf) {
    const Partition& partition = model.partition;
    const int zero = model.options.zero;
    const bool last = leaf + 1 == model.leaves_of_rank();
    const stream_t stream = model.comm_stream;
    record(model.computed, model.stream), wait(stream, model.computed);
    for (const OwnPiece& own : model.own_pieces) {
        if (own.bucket.layer != layer) continue;
        const Range all = partition.range_of(own.bucket);
        const size_t first = own.range.begin, n = own.range.size(), n_chunks = own.chunks.end - own.chunks.begin;
        float *bucket = model.made_at(all.begin), *mine = bucket + (first - all.begin);
        double* squares = model.own_sums() + model.leaves_of_rank() + own.chunks_at;
        const Chunk* chunks = model.chunks + own.chunks.begin;
        if (zero < 2) add_to_subtrees(model, leaf, all.begin, all.size(), stream);
        add_over_ranks(model, own, bucket, squares);
        if (zero < 2 || n == 0) continue;
        copy_on_device(model.gradients(waiting_subtrees(leaf)) + own.at, mine, n * sizeof(float), stream);
        add_to_subtrees(model, leaf, own.at, n, stream);
        if (last && leaf > 0) sum_gradients(model.gradients(0) + own.at, squares, model.received, 0, 1, chunks, n_chunks, first, n, stream);
    }
    if (zero >= 2) record(model.exchanged[model.slot_of(layer)], stream);
}

// From stage 2 on: the stream makes gradients of a layer, where those of another were.
template <class F> void await_exchange(Model<F>& model, int layer) {
    if (model.options.zero >= 2) wait(model.stream, model.exchanged[model.slot_of(layer)]);
}

// With all ranks' sums of losses and squares every one of them can then check the step. From here on the stream comes after all that was exchanged.
template <class F> void finish_reduction(Model<F>& model) {
    model.comm.all_gather(model.sums, model.sums_of_rank() * sizeof(double), model.comm_stream);
    record(model.reduced, model.comm_stream), wait(model.stream, model.reduced);
}
