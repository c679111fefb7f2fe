// gather.h: weights that a rank has updated go to all the others, by ZeRO's all-gather: a layer at a time, on a stream of their own, beside the forward
// pass of the layers before it. Every rank exchanges the same buckets in the same order.
//
// In stages 1 and 2 that is once a step, behind the update. In stage 3 ranks keep their shards alone, and a layer's weights are gathered when the layer
// before it begins, in every forward and every backward pass, into the memory of the layer that is done: whatever computes, all ranks do.
#pragma once
#include "../base/stop.h"
#include "model.h"
#include "pieces.h"

// Of a layer, or of the whole model's tensors: behind what the stream has come to, which has updated the weights, or was the last to use their memory.
template <class F> void gather_layer(Model<F>& model, int layer) {
    const stream_t stream = model.comm_stream;
    const bool sharded = model.options.zero >= 3;
    record(model.computed, model.stream), wait(stream, model.computed);
    for (const OwnPiece& own : model.own_pieces) {
        if (own.bucket.layer != layer) continue;
        const Range all = model.partition.range_of(own.bucket);
        F *bucket = model.weights_at(all.begin), *place = bucket + (own.range.begin - all.begin), *mine = sharded ? model.param_shard + own.at : place;
        if (sharded && own.range.size()) copy_on_device(place, mine, own.range.size() * sizeof(F), stream);
        gather_pieces(model.partition, own.bucket, model.comm, bucket, mine, stream);
    }
    record(model.gathered[(size_t)(layer + 1)], stream);
}

// Stage 3: the layer is in memory, or on its way.
template <class F> void prefetch(Model<F>& model, int layer) {
    if (layer < 0 || layer >= model.config.L) return;
    int& here = model.layer_in[TwoLayers::slot_of(layer)];
    if (here != layer) gather_layer(model, layer);
    here = layer;
}

// After the update, or after weights were loaded.
template <class F> void gather_weights(Model<F>& model) {
    if (model.options.zero == 0) return;
    model.layer_in[0] = model.layer_in[1] = model.NO_LAYER;
    model.gathering = true;
    gather_layer(model, WHOLE_MODEL);
    if (model.options.zero >= 3) return prefetch(model, 0), prefetch(model, 1);
    for (int l = 0; l < model.config.L; l++) gather_layer(model, l);
}

// The stream uses the layer's weights from here on, and those of `next` after them.
template <class F> void await_weights(Model<F>& model, int layer, int next) {
    if (model.options.zero >= 3 && layer != WHOLE_MODEL && model.fetches) {
        prefetch(model, layer);
        wait(model.stream, model.gathered[(size_t)(layer + 1)]);
        prefetch(model, next);
    } else if (model.gathering) {
        wait(model.stream, model.gathered[(size_t)(layer + 1)]);
        model.gathering = model.options.zero < 3 && layer + 1 < model.config.L;
    }
}
// All those of them that are in memory are used.
template <class F> void await_weights(Model<F>& model) {
    if (model.gathering) await_weights(model, model.options.zero < 3 ? model.config.L - 1 : WHOLE_MODEL, WHOLE_MODEL);
}

// Weights first .. first + n where they are in device memory, for rank 0 to save. In stage 3 it gets them from the others, which call this too, in `received`.
template <class F> const F* whole_weights(Model<F>& model, size_t first, size_t n) {
    await_weights(model);
    if (model.options.zero < 3) return model.params + first;
    const Comm& comm = model.comm;
    F* landing = (F*)model.received;
    std::vector<Message> sends, receives;
    for (int from = 0; from < comm.world; from++) {
        if (comm.rank != 0 && from != comm.rank) continue;
        for (const Owned& o : from == comm.rank ? model.owned : model.partition.owned(from)) {
            const size_t begin = std::max(first, o.range.begin), end = std::min(first + n, o.range.end);
            if (begin >= end) continue;
            F* mine = model.param_shard + o.at + (begin - o.range.begin);
            if (from != 0) (comm.rank == 0 ? receives : sends).push_back(comm.rank == 0 ? Message{from, landing + (begin - first), (end - begin) * sizeof(F)} : Message{0, mine, (end - begin) * sizeof(F)});
            else copy_on_device(landing + (begin - first), mine, (end - begin) * sizeof(F), model.stream);
        }
    }
    comm.exchange(sends, receives, model.stream);
    return landing;
}

// Whether this rank is asked to stop what it computes; in stage 3, where all compute the same, whether one of them is.
template <class F> bool asked_to_stop(const Model<F>& model) { return model.options.zero < 3 ? stop_requested() : model.comm.any(stop_requested()); }
