// reduce.h: gradients are added up over the ranks, by ZeRO's reduce-scatter: a layer at a time, on a stream of their own, beside the backward pass of the
// layers before it. Every rank exchanges the same buckets in the same order.
#pragma once
#include "model.h"
#include "pieces.h"

// A leaf's gradients are in their buffer: those of a range are added to the subtrees that wait for them, of the last leaf to all that wait.
template <class F> void add_to_subtrees(Model<F>& model, int leaf, Range range, stream_t stream) {
    const bool last = leaf + 1 == model.leaves_of_rank();
    int buffer = waiting_subtrees(leaf);
    for (int bits = leaf; buffer > 0 && (last || bits & 1); bits >>= 1, buffer--)
        add_gradients(model.gradients(buffer - 1) + range.begin, model.gradients(buffer) + range.begin, range.size(), stream);
}

// What the stream has done so far makes a layer's gradients, or those of the whole model's tensors, complete on this rank. Each rank gets its piece from
// all the others and adds them up, in the order of the tree. ZeRO stage 0: the summed pieces go to all.
template <class F> void reduce_gradients(Model<F>& model, int layer) {
    const Partition& partition = model.partition;
    const Comm& comm = model.comm;
    const stream_t stream = model.comm_stream;
    double* squares = model.own_sums() + model.leaves_of_rank();
    record(model.computed, model.stream), wait(stream, model.computed);
    for (const OwnPiece& own : model.own_pieces) {
        if (own.bucket.layer != layer) continue;
        const Range range = partition.range_of(own.bucket);
        float *bucket = model.grads + range.begin, *mine = model.grads + own.range.begin;
        add_to_subtrees(model, model.leaves_of_rank() - 1, range, stream);
        exchange_pieces(partition, own.bucket, comm, bucket, model.received, stream);
        sum_gradients(mine, squares + own.chunks_at, model.received, comm.rank, comm.world, model.chunks + own.chunks.begin, own.chunks.end - own.chunks.begin, own.range.begin,
                      own.range.size(), stream);
        if (model.options.zero == 0) gather_pieces(partition, own.bucket, comm, bucket, mine, stream);
    }
}

// With all ranks' sums of losses and squares every one of them can then check the step. From here on the stream comes after all that was exchanged.
template <class F> void finish_reduction(Model<F>& model) {
    model.comm.all_gather(model.sums, model.sums_of_rank() * sizeof(double), model.comm_stream);
    record(model.reduced, model.comm_stream), wait(model.stream, model.reduced);
}
