// validate.h: the loss of batches that are not trained on: of the validation data, and of one batch before a checkpoint is written.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>
#include "../base/stop.h"
#include "../comm/comm.h"
#include "../data/data.h"
#include "../model/model.h"
#include "log.h"
#include "run.h"

// Of a batch without gradients: the sum of the losses, the number of targets that count, bytes of text that they stand for.
struct LossSum { double loss = 0, targets = 0, bytes = 0; };
template <class F> LossSum batch_loss(Model<F>& model, const Batch& batch, const std::vector<int>& byte_lengths) {
    const size_t N = model.N();
    upload(model, batch);
    forward(model);
    classify(model, N, 0, false, false);
    sum_losses(model.loss_sum, model.tensors().losses, N, false, model.stream);
    copy_to_host(model.host_loss_sum, model.loss_sum, sizeof(double), model.stream);
    synchronize(model.stream);
    LossSum sum{.loss = *model.host_loss_sum};
    for (size_t i = 0; i < N; i++) sum.targets += batch.targets[i] >= 0;
    sum.bytes = (double)count_target_bytes(batch, N, byte_lengths);
    return sum;
}

// Loss over --val-batches batches of the validation data (0: all of it), from its start; NaN if a rank is asked to stop meanwhile. The ranks take turns,
// and batches are added up in their order, so that the sum is the same for any number of ranks.
template <class F> double validate(const Run& run, Model<F>& model, DataLoader& data, int step, Log& log) {
    const std::vector<int> lengths = run.has_tokenizer ? run.tokenizer.byte_lengths() : std::vector<int>();
    const Comm& comm = run.comm;
    const uint64_t all = data.batches();
    const uint64_t batches = run.opt.val_batches ? std::min<uint64_t>(run.opt.val_batches, all) : all;
    data.seek(0);
    LossSum sum;
    for (uint64_t first = 0; first < batches; first += (uint64_t)comm.world) {
        if (comm.any(stop_requested())) return NAN;
        std::vector<LossSum> parts((size_t)comm.world);
        if (first + (uint64_t)comm.rank < batches) parts[(size_t)comm.rank] = batch_loss(model, data.next(), lengths);
        else if (model.options.zero >= 3) forward(model);  // with the others, which need the weights of this rank
        comm.all_gather(parts);
        for (const LossSum& part : parts) sum.loss += part.loss, sum.targets += part.targets, sum.bytes += part.bytes;
    }
    double bits_per_byte = sum.bytes > 0 ? sum.loss / std::log(2.0) / sum.bytes : NAN;
    log.val(step, sum.loss / sum.targets, bits_per_byte, run.floor);
    return sum.loss / sum.targets;
}

// The loss of one batch, of validation where there are such data, the largest of the ranks': whether the weights are worth a checkpoint. 0 without data.
template <class F> double probe(const Run& run, Model<F>& model, std::optional<DataLoader>& train_data, std::optional<DataLoader>& val_data) {
    std::optional<DataLoader>& data = val_data ? val_data : train_data;
    if (!data) return 0;
    const uint64_t position = data->position();
    if (val_data) data->seek(0);
    const LossSum sum = batch_loss(model, data->next(), {});
    data->seek(position);
    std::vector<double> losses((size_t)run.comm.world);
    losses[(size_t)run.comm.rank] = sum.targets > 0 ? sum.loss / sum.targets : 0;
    run.comm.all_gather(losses);
    double largest = 0;
    for (double loss : losses) if (!(loss <= largest)) largest = std::isnan(loss) ? INFINITY : loss;
    return largest;
}
