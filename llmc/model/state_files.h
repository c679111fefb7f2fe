// state_files.h: the optimizer's state in and out of a checkpoint. The files are the same whatever the number of ranks, and all ranks write them, each
// its own: what a rank writes of others' state they send it.
#pragma once
#include <algorithm>
#include <string>
#include <utility>
#include <vector>
#include "../comm/comm.h"
#include "../io/checkpoint_writer.h"
#include "../io/state_pieces.h"
#include "model.h"
#include "model_files.h"
#include "state_cut.h"

namespace state_files_detail {
struct StateKind { std::string name; float* values; bool second; };  // second: moments, which Muon's matrices have none of
template <class M> std::vector<StateKind> state_kinds(M& model) {
    std::vector<StateKind> kinds = {{"exp_avg", model.m, false}, {"exp_avg_sq", model.v, true}};
    if (model.master) kinds.push_back({"master", model.master, false});
    return kinds;
}

// A stretch of one parameter's state that fits the staging buffer: what is sent, and written, at a time.
struct Stretch { const StateKind* kind; const Parameter* parameter; size_t first, count; };
struct StateFile { std::vector<TensorSpec> specs; std::vector<Stretch> stretches; };

template <class M> std::vector<StateFile> cut_into_files(M& model, const std::vector<StateKind>& kinds) {
    std::vector<StateFile> files;
    const std::vector<Parameter>& all = model.parameters.all;
    for (const Range& range : cut_of_state(model.parameters, kinds.size(), model.options.optimizer)) {
        StateFile file;
        for (const StateKind& kind : kinds)
            for (size_t p = range.begin; p < range.end; p++) {
                if (kind.second && model.options.optimizer == MUON && all[p].update == MUON) continue;
                file.specs.push_back(state_spec({kind.name, all[p].name, 0, all[p].size()}));
                for (size_t at = 0; at < all[p].size(); at += model.staging_floats())
                    file.stretches.push_back({&kind, &all[p], at, std::min(model.staging_floats(), all[p].size() - at)});
            }
        files.push_back(std::move(file));
    }
    return files;
}

// To each rank of a turn the next stretch of its file: from whoever owns its elements to `landing` of device memory. Every rank calls this at the same time.
template <class F> void bring_stretches(Model<F>& model, const Comm& comm, const std::vector<const Stretch*>& stretches, float* landing) {
    std::vector<Message> sends, receives;
    for (int to = 0; to < comm.world; to++) {
        const Stretch* s = (size_t)to < stretches.size() ? stretches[(size_t)to] : nullptr;
        if (!s) continue;
        const size_t first = s->parameter->offset + s->first;
        for (int from = 0; from < comm.world; from++)
            for (const Owned& o : model.partition.owned(from)) {
                const size_t begin = std::max(first, o.range.begin), end = std::min(first + s->count, o.range.end);
                if (begin >= end) continue;
                float *mine = s->kind->values + (s->kind->second ? o.v_at : o.at) + (begin - o.range.begin), *there = landing + (begin - first);
                if (from == comm.rank && to == comm.rank) copy_on_device(there, mine, (end - begin) * sizeof(float), model.stream);
                else if (from == comm.rank) sends.push_back({to, mine, (end - begin) * sizeof(float)});
                else if (to == comm.rank) receives.push_back({from, there, (end - begin) * sizeof(float)});
            }
    }
    comm.exchange(sends, receives, model.stream);
}
}  // namespace state_files_detail

// Every rank writes every world'th file. Where the state is not divided each has all of it, else the ranks go through their files side by side and send
// each other what they lack.
template <class F> void save_state(Model<F>& model, CheckpointWriter& checkpoint, const Comm& comm) {
    using namespace state_files_detail;
    const std::vector<StateKind> kinds = state_kinds(model);
    const std::vector<StateFile> files = cut_into_files(model, kinds);
    const bool divided = model.options.zero > 0 && comm.world > 1;
    for (size_t first = 0; first < files.size(); first += (size_t)comm.world) {
        const size_t mine = first + (size_t)comm.rank;
        size_t most = 0;
        for (size_t f = first; f < std::min(first + (size_t)comm.world, files.size()); f++) most = std::max(most, files[f].stretches.size());
        const auto bring = [&](size_t turn) {  // the turn'th stretch of each rank's file
            std::vector<const Stretch*> stretches;
            for (size_t f = first; f < first + (size_t)comm.world; f++)
                stretches.push_back(f < files.size() && turn < files[f].stretches.size() ? &files[f].stretches[turn] : nullptr);
            bring_stretches(model, comm, stretches, model.received);
        };
        size_t turn = 0;
        if (mine < files.size())
            checkpoint.add_tensors(state_file((int)mine), files[mine].specs, {}, [&](TensorSink& file) {
                for (const Stretch& s : files[mine].stretches) {
                    if (divided) bring(turn);
                    const float* from = model.received;
                    if (!divided) model.for_each_owned(s.parameter->offset + s.first, s.count, [&](size_t, size_t, size_t at) { from = s.kind->values + at; }, s.kind->second);
                    float* const to = file.place(model.staging);
                    copy_to_host(to, from, s.count * sizeof(float), model.stream);
                    synchronize(model.stream);
                    file.write(to, s.count * sizeof(float));
                    turn++;
                }
            });
        for (; divided && turn < most; turn++) bring(turn);  // others' files are longer
    }
}

// A run may change its precision. Towards bf16 the weights as loaded, in fp32, are the masters already (store_staged). Towards fp32 the
// checkpoint's masters are the weights. Returns what was done about that, or "". Each rank reads what it owns.
template <class F> std::string load_state(Model<F>& model, const std::string& folder) {
    using namespace state_files_detail;
    StateReader reader(folder);
    std::vector<StateKind> kinds = state_kinds(model);
    const std::vector<Parameter>& all = model.parameters.all;
    const bool masters = std::any_of(all.begin(), all.end(), [&](const Parameter& p) { return reader.has("master", p.name); });
    std::string done;
    model.has_kept_sums = false;
    if (model.master && !masters) kinds.pop_back(), done = "master weights made from the checkpoint's weights: it has none";
    const auto read = [&](const std::string& kind, const Parameter& p, size_t first, size_t count, float* to) {
        for (size_t at = 0, n; at < count; at += n) {
            n = std::min(model.staging_floats(), count - at);
            reader.read(kind, p.name, first + at, n, model.staging);
            copy_to_device(to + at, model.staging, n * sizeof(float), model.stream);
            synchronize(model.stream);
        }
    };
    for (const StateKind& kind : kinds)
        for (const Parameter& p : all)
            model.for_each_owned(p.offset, p.size(), [&](size_t begin, size_t count, size_t at) { read(kind.name, p, begin - p.offset, count, kind.values + at); }, kind.second);
    if constexpr (std::is_same_v<F, float>)
        if (masters) {  // all that this rank holds
            for (const Parameter& p : all) {
                if (model.options.zero < 3) read("master", p, 0, p.size(), model.params + p.offset);
                else model.for_each_owned(p.offset, p.size(), [&](size_t begin, size_t count, size_t at) { read("master", p, begin - p.offset, count, model.param_shard + at); });
            }
            done = "fp32 weights taken from the checkpoint's master weights";
        }
    return done;
}
