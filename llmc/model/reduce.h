// reduce.h: gradients are added up over the ranks, by ZeRO's reduce-scatter, ours or the library's: a layer at a time, on a stream of their own, beside the backward pass of the
// layers before it. Every rank exchanges the same buckets in the same order.
//
// Up to stage 1 that is in the step's last micro-batch: each rank has made the sum of its leaves, which is a node of the tree. From stage 2 on no rank
// keeps whole gradients, and each micro-batch is a leaf: ranks take turns at them, so that what they make in a round is a node of the tree, of which
// each keeps its shard; or, of a number of ranks that is no power of two, several nodes.
#pragma once
#include "model.h"
#include "pieces.h"

// The sum of a leaf's, or from stage 2 on of a leaf's of each rank, or of some, is in its buffer: elements at .. at + n are added to the subtrees that wait
// for them, at the end of a step to all that wait.
template <class F> void add_to_subtrees(Model<F>& model, int leaf, bool last, size_t at, size_t n, stream_t stream) {
    int buffer = waiting_subtrees(leaf);
    for (int bits = leaf; buffer > 0 && (last || bits & 1); bits >>= 1, buffer--) add_gradients(model.gradients(buffer - 1) + at, model.gradients(buffer) + at, n, stream);
}

// From stage 2 on, where a round is several nodes of the tree: what the last level exchanges, of which this rank's `mine` is in `piece` and the others' in
// `received`, is added to the subtrees that wait.
template <class F> void add_units(Model<F>& model, const OwnPiece& own, float* piece, const Level& level, int leaf) {
    const int units = model.units_of_round(), end = (leaf + 1) * units, sums_of_unit = (int)level.ranks.size() / units, mine = (int)level.mine;
    const size_t n = own.range.size();
    for (int unit = leaf * units, count; unit < end && n > 0; unit += count) {
        count = subtree_within(unit, end);
        const int first = (unit - leaf * units) * sums_of_unit, sums = count * sums_of_unit;  // of the level
        const bool in_place = first <= mine && mine < first + sums;
        float* others = model.received + (size_t)(first <= mine ? first : first - 1) * n;
        float* sum = in_place ? piece : others;
        sum_gradients(sum, nullptr, in_place ? others : others + n, in_place ? mine - first : 0, sums, model.chunks + own.chunks.begin, own.chunks.end - own.chunks.begin, own.range.begin, n, model.comm_stream);
        copy_on_device(model.gradients(waiting_subtrees(unit)) + own.at, sum, n * sizeof(float), model.comm_stream);
        add_to_subtrees(model, unit / count, leaf + 1 == model.leaves_of_rank() && unit + count == end, own.at, n, model.comm_stream);
    }
}

// A bucket's gradients become their sum over the ranks: this one's piece, and in ZeRO stage 0 all of them. Each rank gets its piece from all the others
// and adds them up in fp32, in the order of the tree; over several nodes in two levels, of which the first makes nodes of the tree.
template <class F> void add_as_tree(Model<F>& model, const OwnPiece& own, float* bucket, double* squares, int leaf) {
    const Partition& partition = model.partition;
    const Comm& comm = model.comm;
    const bool rounds = model.options.exchange_bf16;
    const stream_t stream = model.comm_stream;
    const Range all = partition.range_of(own.bucket);
    const std::vector<Level> levels = levels_of(partition, own.bucket, comm.rank);
    Range whole = all;  // what this level cuts into parts
    for (const Level& level : levels) {
        const Range part = partition.range_of(level.own());
        const size_t others = level.ranks.size() - 1;
        float* at = bucket + (whole.begin - all.begin);
        if (rounds) {
            cast_gradients(model.rounded, at, whole.size(), stream);
            exchange_level(partition, level, comm, model.rounded, whole.begin, model.received_bf16, stream);
            cast_gradients(model.received, model.received_bf16, others * part.size(), stream);
        } else exchange_level(partition, level, comm, at, whole.begin, model.received, stream);
        if (&level == &levels.back() && model.options.zero >= 2 && model.units_of_round() > 1) return add_units(model, own, bucket + (part.begin - all.begin), level, leaf);
        sum_gradients(bucket + (part.begin - all.begin), &level == &levels.back() ? squares : nullptr, model.received, (int)level.mine, (int)others + 1, model.chunks + level.own().begin,
                      level.own().end - level.own().begin, part.begin, part.size(), stream);
        whole = part;
    }
    if (model.options.zero > 0) return;
    float* mine = bucket + (own.range.begin - all.begin);
    if (!rounds) return gather_pieces(partition, own.bucket, comm, bucket, mine, stream);
    bf16* mine_rounded = model.rounded + (own.range.begin - all.begin);  // this rank has its own sums as the others get them
    cast_gradients(mine_rounded, mine, own.range.size(), stream);
    gather_pieces(partition, own.bucket, comm, model.rounded, mine_rounded, stream);
    cast_gradients(bucket, model.rounded, all.size(), stream);
}

// The same by the library, in an order of its own; squares alone are left to be made.
template <class F> void add_by_library(Model<F>& model, const OwnPiece& own, float* bucket, double* squares) {
    const Range all = model.partition.range_of(own.bucket);
    const size_t share = model.partition.equal_share(all), first = own.range.begin;
    const stream_t stream = model.comm_stream;
    if (model.options.zero == 0) model.comm.all_reduce(bucket, all.size(), stream);
    else model.comm.reduce_scatter(bucket, share, all.size() - (size_t)model.comm.world * share, stream);
    sum_gradients(bucket + (first - all.begin), squares, model.received, 0, 1, model.chunks + own.chunks.begin, own.chunks.end - own.chunks.begin, first, own.range.size(), stream);
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
        if (zero < 2) add_to_subtrees(model, leaf, last, all.begin, all.size(), stream);
        if (model.options.reduce == Reduce::TREE) add_as_tree(model, own, bucket, squares, leaf);
        else add_by_library(model, own, bucket, squares);
        if (zero < 2 || n == 0) continue;
        if (model.units_of_round() == 1) {
            copy_on_device(model.gradients(waiting_subtrees(leaf)) + own.at, mine, n * sizeof(float), stream);
            add_to_subtrees(model, leaf, last, own.at, n, stream);
        }
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
