// gather.h: weights that a rank has updated go to all the others, by ZeRO's all-gather: a layer at a time, on a stream of their own, beside the forward
// pass of the layers before it. Every rank exchanges the same buckets in the same order.
#pragma once
#include "model.h"
#include "pieces.h"

// After the update, which the stream has come to.
template <class F> void gather_weights(Model<F>& model) {
    if (model.options.zero == 0) return;
    const Partition& partition = model.partition;
    const stream_t stream = model.comm_stream;
    record(model.computed, model.stream), wait(stream, model.computed);
    for (int layer = WHOLE_MODEL; layer < model.config.L; layer++) {
        for (const OwnPiece& own : model.own_pieces)
            if (own.bucket.layer == layer) gather_pieces(partition, own.bucket, model.comm, model.params + partition.range_of(own.bucket).begin, model.params + own.range.begin, stream);
        record(model.gathered[layer + 1], stream);
    }
    model.gathering = true;
}

// The stream uses the layer's weights from here on, and those of the layers before it.
template <class F> void await_weights(Model<F>& model, int layer) {
    if (!model.gathering) return;
    wait(model.stream, model.gathered[layer + 1]);
    model.gathering = layer + 1 < model.config.L;
}
template <class F> void await_weights(Model<F>& model) { await_weights(model, model.config.L - 1); }
