// verify.h: whether memory still holds what an update wrote to it, whether a step computed twice has the same gradients, to the bit, and whether weights and
// moments are finite. Memory without error correction, and processors that compute wrongly now and then, ruin a run in silence (Dixit et al. 2021, Silent
// Data Corruptions at Scale).
//
// What is not finite in losses, activations and gradients comes to the loss or the norm, and the step guard skips the update. What is not in the weights that
// a batch does not read, in masters and in moments, AdamW sees: step_stats->not_finite. Before a save all are read once more.
#pragma once
#include <string>
#include "gather.h"
#include "model.h"

constexpr int VERIFY_STATE_EVERY = 100;  // steps: two passes over weights and moments, of 124M on an H100 2 ms in 90 s

namespace verify_detail {
// body(kind, data, chunks, first) for what this rank holds of a kind: data points to elements `first` and those after it, which are those chunks.
template <class F, class X, class Body> void for_each_piece_of(const Model<F>& model, Kind kind, X* data, bool by_element, Body body) {
    if (!data) return;
    if (model.options.zero == 0) return body(kind, data, Bucket{0, model.partition.chunks}, (size_t)0);
    for (const OwnPiece& own : model.own_pieces) if (own.range.size() > 0) body(kind, data + (by_element ? own.range.begin : own.at), own.chunks, own.range.begin);
}
template <class F, class Body> void for_each_kept(const Model<F>& model, Body body) {
    if (model.options.zero < 3) body(WEIGHTS, model.params, Bucket{0, model.partition.chunks}, (size_t)0);
    else for_each_piece_of(model, WEIGHTS, model.param_shard, false, body);
    for_each_piece_of(model, MASTER_WEIGHTS, model.master, false, body);
    for_each_piece_of(model, FIRST_MOMENTS, model.m, false, body);
    if (model.v) for (const Owned& o : model.owned) if (o.second_moments()) body(SECOND_MOMENTS, model.v + o.v_at, model.partition.chunks_of(o.range), o.range.begin);
}
template <class F, class Body> void for_each_gradient(const Model<F>& model, Body body) {
    for_each_piece_of(model, GRADIENTS, model.gradients(0), model.options.zero < 2, body);
}
template <class F> auto take_sums(Model<F>& model) {
    return [&model](Kind kind, auto* data, const Bucket& chunks, size_t first) {
        checksum_chunks(model.kept_sums + kind * model.partition.chunks + chunks.begin, data, model.chunks + chunks.begin, chunks.end - chunks.begin, first, model.stream);
    };
}
template <class F> auto compare_sums(Model<F>& model) {
    return [&model](Kind kind, auto* data, const Bucket& chunks, size_t first) {
        const size_t at = kind * model.partition.chunks + chunks.begin;
        compare_chunks(model.changed, model.kept_sums + at, data, model.chunks + chunks.begin, chunks.end - chunks.begin, first, at, model.stream);
    };
}
}  // namespace verify_detail

// Behind an update: checksums of the weights and the optimizer's state as it left them.
template <class F> void keep_sums_of_state(Model<F>& model) {
    await_weights(model);
    verify_detail::for_each_kept(model, verify_detail::take_sums(model));
    model.has_kept_sums = true;
}
// Before the next one: whether they are the same. What has changed arrives with the step's statistics.
template <class F> void verify_state(Model<F>& model) {
    if (!model.has_kept_sums) return;
    verify_detail::for_each_kept(model, verify_detail::compare_sums(model));
    copy_to_host(model.host_changed, model.changed, sizeof(uint64_t), model.stream);
}

// Which chunk of the state is not finite, moments first, as an update carries what is wrong in them on to the weights: one pass, of 124M on an H100 less than 1 ms.
template <class F> void find_not_finite_state(Model<F>& model) {
    await_weights(model);
    verify_detail::for_each_kept(model, [&model](Kind kind, auto* data, const Bucket& chunks, size_t first) {
        find_not_finite(model.changed, data, model.chunks + chunks.begin, chunks.end - chunks.begin, first, (KINDS + SECOND_MOMENTS - kind) * model.partition.chunks + chunks.begin, model.stream);
    });
    copy_to_host(model.host_changed, model.changed, sizeof(uint64_t), model.stream);
}

// What has changed since the update, or is not finite, would become a checkpoint. A model that does not train has been looked at when it was loaded.
template <class F> std::string what_changed(const Model<F>& model);
template <class F> void verify_before_saving(Model<F>& model, int step) {
    if (!model.options.train) return;
    if (step % VERIFY_STATE_EVERY == 0) verify_state(model);
    find_not_finite_state(model);
    synchronize(model.stream);
    if (const std::string changed = what_changed(model); !changed.empty()) die("step %d: %s; it is not saved", step, changed.c_str());
}
// After an update that had a result which is not finite.
template <class F> std::string what_is_not_finite(Model<F>& model) {
    find_not_finite_state(model);
    synchronize(model.stream);
    const std::string found = what_changed(model);
    return found.empty() ? format("%s computed a value that is not finite", model.options.optimizer == MUON ? "Muon or AdamW" : "AdamW") : found;
}

// A step's gradients, which are there, are computed once more, and compared.
template <class F, class Again> void verify_gradients(Model<F>& model, const Again& compute_again) {
    verify_detail::for_each_gradient(model, verify_detail::take_sums(model));
    compute_again();
    verify_detail::for_each_gradient(model, verify_detail::compare_sums(model));
    copy_to_host(model.host_changed, model.changed, sizeof(uint64_t), model.stream);
}

// "" or what has changed or is not finite, and where.
template <class F> std::string what_changed(const Model<F>& model) {
    const uint64_t changed = *model.host_changed;
    if (changed == UNCHANGED) return "";
    const size_t row = changed / model.partition.chunks;
    const bool not_finite = row >= KINDS;
    const Kind kind = (Kind)(not_finite ? KINDS + SECOND_MOMENTS - row : row);
    const size_t chunk = changed % model.partition.chunks, begin = model.partition.begin_of(chunk);
    const Parameter* tensor = &model.parameters.all[0];
    for (const Parameter& p : model.parameters.all) if (p.offset <= begin) tensor = &p;
    const size_t first = begin - tensor->offset, last = std::min(model.partition.begin_of(chunk + 1) - tensor->offset, tensor->size()) - 1;
    if (kind == GRADIENTS) return format("%s, elements %zu to %zu: computed twice, the gradient has other bits: this machine does not compute the same each time", tensor->name.c_str(), first, last);
    const bool muon = model.options.optimizer == MUON && tensor->update == MUON;
    const char* const kinds[] = {"the weights", "the master weights", muon ? "Muon's momentum" : "AdamW's first moments", "AdamW's second moments"};
    if (not_finite) return format("%s, elements %zu to %zu: %s are not finite", tensor->name.c_str(), first, last, kinds[kind]);
    return format("%s, elements %zu to %zu: %s are not what the last update wrote: memory of this machine is damaged", tensor->name.c_str(), first, last, kinds[kind]);
}
