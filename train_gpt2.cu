// train_gpt2.cu: trains GPT-2 and its descendants. One file, two backends:
//     c++  -x c++ train_gpt2.cu -o train_gpt2        a CPU, with nothing but a compiler
//     nvcc        train_gpt2.cu -o train_gpt2cu      NVIDIA GPUs
// Read it from top to bottom: forward, backward, update, and the training loop. The tensors that it speaks of (b.qkv, b.dqkvw) are rows of the
// table in llmc/model/tensors.h, their shapes stand there; each layer is a file in llmc/cpu and one in llmc/cuda with the same functions.
// F is the type in which weights and activations are stored: float or bf16.
#include <algorithm>
#include <climits>
#include <memory>
#include <optional>
#include <string>
#include <vector>
#include "llmc/backend.h"
#include "llmc/base/cpu_features.h"
#include "llmc/base/stop.h"
#include "llmc/comm/open.h"
#include "llmc/data/data.h"
#include "llmc/model/bin_model.h"
#include "llmc/model/flops.h"
#include "llmc/model/gather.h"
#include "llmc/model/generate.h"
#include "llmc/model/model.h"
#include "llmc/model/model_files.h"
#include "llmc/model/reduce.h"
#include "llmc/model/same_weights.h"
#include "llmc/model/verify.h"
#include "llmc/train/chat.h"
#include "llmc/train/clock.h"
#include "llmc/train/confirm.h"
#include "llmc/train/eval.h"
#include "llmc/train/log.h"
#include "llmc/train/options.h"
#include "llmc/train/peak.h"
#include "llmc/train/place.h"
#include "llmc/train/plan.h"
#include "llmc/train/prepare.h"
#include "llmc/train/progress.h"
#include "llmc/train/replay.h"
#include "llmc/train/rollback.h"
#include "llmc/train/run.h"
#include "llmc/train/save.h"
#include "llmc/train/schedule.h"
#include "llmc/train/step_reporter.h"
#include "llmc/train/validate.h"
#include "llmc/train/when_to_save.h"

// ---------------------------------------------------------------------------------------------------------------------
// Forward

// qkv -> atty. Rotary positions turn queries and keys first.
template <class F> void attend(const Model<F>& model, const Block<F>& b, const Attend& how) {
    const Heads heads = model.config.heads();
    if (b.cos_sin) rope_forward(b.attended(), b.qkv, b.qnormw, b.knormw, b.cos_sin, how.B, how.T, how.pos, heads, model.config.qk_eps(), model.stream);
    if (how.cached) attention_cached(b.atty, b.kcache, b.vcache, b.attended(), how.T, how.pos, b.window, heads, model.stream);
    else attention_forward(b.atty, b.lse, b.attended(), b.seen(how.by_document), how.B, how.T, heads, model.stream);
}

// The activation of the MLP's hidden layer: fch -> fch_gelu.
template <class F> void activate(Model<F>& model, const Block<F>& b, size_t N) {
    const int FF = model.config.FF;
    if (model.config.arch.mlp == SWIGLU) swiglu_forward(b.fch_gelu, b.fch, N, FF, model.stream);
    else if (model.config.arch.mlp == RELU2) relu2_forward(b.fch_gelu, b.fch, N * FF, model.stream);
    else gelu_forward(b.fch_gelu, b.fch, N * FF, model.stream);
}

// A block up to its MLP's hidden layer: residual, ln1 -> residual2, fch_gelu, and all that the backward pass reads.
template <class F> void forward_block(Model<F>& model, const Block<F>& b, const F* residual, const Attend& how) {
    const Heads heads = model.config.heads();
    const int C = model.config.C, FF = model.config.FF;
    const float eps = (float)model.config.eps;
    const size_t N = (size_t)how.B * how.T;
    const stream_t stream = model.stream;
    matmul_forward(b.qkv, b.ln1, b.qkvw, b.qkvb, N, C, heads.qkv(), {}, stream);
    attend(model, b, how);
    matmul_forward(b.branch, b.atty, b.attprojw, b.attprojb, N, heads.q(), C, {}, stream);
    residual_layernorm_forward(b.residual2, b.ln2, b.ln2_mean, b.ln2_rstd, residual, b.branch, b.ln2w, b.ln2b, N, C, eps, stream);
    if (model.config.arch.mlp == GELU) return matmul_forward(b.fch_gelu, b.ln2, b.fcw, b.fcb, N, C, FF, {.pre_gelu = b.fch}, stream);
    matmul_forward(b.fch, b.ln2, b.fcw, b.fcb, N, C, model.config.hidden(), {}, stream);
    activate(model, b, N);
}

// A layer of the trunk: a LayerNorm after the sum that ends the block before, if there is one; the block, up to the branch that the next sum adds.
template <class F> void forward_layer(Model<F>& model, int l, const Attend& how) {
    const int C = model.config.C, FF = model.config.FF;
    const float eps = (float)model.config.eps;
    const size_t N = (size_t)how.B * how.T;
    const stream_t stream = model.stream;
    const Block<F>& b = model.block(l);
    if (l == 0) {
        layernorm_forward(b.ln1, b.ln1_mean, b.ln1_rstd, b.encoded, b.ln1w, b.ln1b, N, C, eps, stream);
    } else {
        const Block<F>& p = model.block(l - 1);
        residual_layernorm_forward(p.residual3, b.ln1, b.ln1_mean, b.ln1_rstd, p.residual2, p.branch, b.ln1w, b.ln1b, N, C, eps, stream);
    }
    forward_block(model, b, l == 0 ? b.encoded : model.block(l - 1).residual3, how);
    matmul_forward(b.branch, b.fch_gelu, b.fcprojw, b.fcprojb, N, FF, C, {}, stream);
}

// The trunk: tokens (B, T) -> lnf (B, T, C).
template <class F> void forward_trunk(Model<F>& model, const int* tokens, const Attend& how) {
    const int C = model.config.C, L = model.config.L;
    const float eps = (float)model.config.eps;
    const size_t N = (size_t)how.B * how.T;
    const stream_t stream = model.stream;
    const Block<F>& first = model.tensors();

    await_weights(model, WHOLE_MODEL, 0);
    embedding_forward(first.encoded, tokens, first.wte, first.wpe, how.B, how.T, C, how.pos, stream);
    if (first.window_starts && !how.cached) window_starts(first.window_starts, how.by_document ? first.starts : nullptr, model.config.sliding_window, how.B, how.T, stream);
    for (int l = 0; l < L; l++) {
        await_weights(model, l, l + 1);
        model.part(FORWARD, l, false, [&] { forward_layer(model, l, how); });
    }
    const Block<F>& b = model.block(L - 1);
    residual_layernorm_forward(b.residual3, b.lnf, b.lnf_mean, b.lnf_rstd, b.residual2, b.branch, b.lnfw, b.lnfb, N, C, eps, stream);
}

template <class F> void forward(Model<F>& model) {
    const int B = model.options.B, T = model.options.T;
    if (const Block<F>& b = model.tensors(); b.starts) document_starts(b.starts, model.tokens, model.options.mask_eot, B, T, model.stream);
    forward_trunk(model, model.tokens, {.B = B, .T = T});
}

// The classifier, a chunk of rows at a time, so that the logits of a large batch never exist at once: lnf -> losses, and if
// `backward`, dlnf = and dhead = or +=, by way of the logits' gradient, which overwrites the logits. Of the first N rows.
template <class F> void classify(Model<F>& model, size_t N, float dloss, bool backward, bool accumulate) {
    const Block<F>& b = model.tensors();
    const int C = model.config.C, V = model.config.V, Vp = model.config.Vp();
    const int* targets = model.targets();
    for (size_t at = 0; at < N; at += model.classifier_chunk()) {
        size_t n = std::min(model.classifier_chunk(), N - at);
        matmul_forward(b.logits, b.lnf + at * C, b.head(), (const F*)nullptr, n, C, Vp, {}, model.stream);
        fused_classifier(b.logits, b.losses + at, targets + at, dloss, n, V, Vp, {.write_dlogits = backward, .softcap = (float)model.config.arch.softcap}, model.stream);
        if (!backward) continue;
        matmul_backward_input(b.dlnf + at * C, b.logits, b.head(), n, C, Vp, {}, model.stream);
        matmul_backward_weight(b.dhead(), (float*)nullptr, b.logits, b.lnf + at * C, n, C, Vp, accumulate || at > 0, model.stream);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Backward: every weight's gradient = or += (accumulate); the forward, line by line, from its end

// A micro-batch's place in its step. accumulate: another one of its leaf was before it; reduce: ranks exchange the gradients beside the backward pass.
struct MicroStep { int leaf = 0; bool accumulate = false, reduce = false; };

template <class F> void backward_block(Model<F>& model, int l, bool accumulate) {
    const int B = model.options.B, T = model.options.T, recompute = model.options.recompute;
    const int C = model.config.C, L = model.config.L, FF = model.config.FF;
    const Heads heads = model.config.heads();
    const Mlp mlp = model.config.arch.mlp;
    const float eps = (float)model.config.eps, qk_eps = model.config.qk_eps();
    const size_t N = (size_t)B * T;
    const stream_t stream = model.stream;
    const Block<F>& b = model.block(l);
    const F* residual = l == 0 ? b.encoded : model.block(l - 1).residual3;
    const int again = l < L - 1 ? recompute : 0;  // of the last block everything is still there

    if (again == 3) {
        layernorm_forward(b.ln1, b.ln1_mean, b.ln1_rstd, residual, b.ln1w, b.ln1b, N, C, eps, stream);
        forward_block(model, b, residual, {.B = B, .T = T});
    }
    if (again == 1 || again == 2) activate(model, b, N);
    matmul_backward_weight(b.dfcprojw, b.dfcprojb, b.dresidual, b.fch_gelu, N, FF, C, accumulate, stream);
    matmul_backward_input(mlp == SWIGLU ? b.dgated : b.dfch, b.dresidual, b.fcprojw, N, FF, C, {.pre_gelu = mlp == GELU ? b.fch : nullptr}, stream);
    if (mlp == SWIGLU) swiglu_backward(b.dfch, b.dgated, b.fch, N, FF, stream);
    if (mlp == RELU2) relu2_backward(b.dfch, b.dfch, b.fch, N * FF, stream);
    if (again == 2) layernorm_forward(b.ln2, b.ln2_mean, b.ln2_rstd, b.residual2, b.ln2w, b.ln2b, N, C, eps, stream);
    matmul_backward_weight(b.dfcw, b.dfcb, b.dfch, b.ln2, N, C, model.config.hidden(), accumulate, stream);
    matmul_backward_input(b.dln, b.dfch, b.fcw, N, C, model.config.hidden(), {}, stream);
    layernorm_backward(b.dresidual, b.dln2w, b.dln2b, b.dln, b.residual2, b.ln2_mean, b.ln2_rstd, b.ln2w, N, C,
                       {.accumulate = accumulate, .add_to_dinp = true}, stream);

    matmul_backward_weight(b.dattprojw, b.dattprojb, b.dresidual, b.atty, N, heads.q(), C, accumulate, stream);
    matmul_backward_input(b.datty, b.dresidual, b.attprojw, N, heads.q(), C, {}, stream);
    if (b.qkr && l < L - 1 && again < 3) rope_forward(b.qkr, b.qkv, b.qnormw, b.knormw, b.cos_sin, B, T, 0, heads, qk_eps, stream);
    attention_backward(b.dqkv, b.datty, b.atty, b.lse, b.attended(), b.seen(), b.dattention, B, T, heads, stream);
    if (b.cos_sin) rope_backward(b.dqkv, b.dqnormw, b.dknormw, b.dqkv, b.qkv, b.qnormw, b.knormw, b.cos_sin, B, T, heads, qk_eps, accumulate, stream);
    if (again == 2) layernorm_forward(b.ln1, b.ln1_mean, b.ln1_rstd, residual, b.ln1w, b.ln1b, N, C, eps, stream);
    matmul_backward_weight(b.dqkvw, b.dqkvb, b.dqkv, b.ln1, N, C, heads.qkv(), accumulate, stream);
    matmul_backward_input(b.dln, b.dqkv, b.qkvw, N, C, heads.qkv(), {}, stream);
    layernorm_backward(b.dresidual, b.dln1w, b.dln1b, b.dln, residual, b.ln1_mean, b.ln1_rstd, b.ln1w, N, C,
                       {.accumulate = accumulate, .add_to_dinp = true}, stream);
}

// Ranks exchange the gradients of a layer, if they are to be reduced, while the layers before it are computed.
template <class F> void backward(Model<F>& model, const MicroStep& micro) {
    const int B = model.options.B, T = model.options.T, C = model.config.C, L = model.config.L;
    const bool accumulate = micro.accumulate;
    const stream_t stream = model.stream;

    const Block<F>& last = model.block(L - 1);
    layernorm_backward(last.dresidual, last.dlnfw, last.dlnfb, last.dlnf, last.residual3, last.lnf_mean, last.lnf_rstd,
                       last.lnfw, model.N(), C, {.accumulate = accumulate}, stream);
    for (int l = L - 1; l >= 0; l--) {
        await_weights(model, l, l - 1);
        await_exchange(model, l);
        model.part(BACKWARD, l, accumulate, [&] { backward_block(model, l, accumulate); });
        if (micro.reduce) reduce_gradients(model, l, micro.leaf);
    }
    const Block<F>& b = model.tensors();
    // embedding_backward adds to dwte, which the classifier has written if the head is tied
    if (!model.config.arch.tied && !accumulate) zero(b.dwte, (size_t)model.config.Vp() * (size_t)C * sizeof(float), stream);
    embedding_backward(b.dwte, b.dwpe, b.dresidual, model.tokens, B, T, C, model.config.max_T, accumulate, stream);
}

// ---------------------------------------------------------------------------------------------------------------------
// A step

// The copies are in flight when it returns, and read the batch's memory later.
template <class F> void upload(Model<F>& model, const Batch& batch) {
    const size_t N = model.N();
    copy_to_device(model.tokens, batch.inputs, N * sizeof(int), model.stream);
    copy_to_device(model.targets(), batch.targets, N * sizeof(int), model.stream);
}

// Of the batch on the device: gradients and the sum of the losses = or += (accumulate).
template <class F> void micro_step(Model<F>& model, const MicroStep& micro) {
    const size_t N = model.N();
    const float dloss = 1.0f / (float)((double)N * model.options.grad_accum * model.options.world);
    forward(model);
    await_exchange(model, WHOLE_MODEL);
    model.part(CLASSIFY, 0, micro.accumulate, [&] { classify(model, N, dloss, true, micro.accumulate); });
    sum_losses(model.loss_sum, model.tensors().losses, N, micro.accumulate, model.stream);
    backward(model, micro);  // from here on the memory of the losses is used by others
}

// One micro-batch. The sum of a leaf's is added to the subtrees that wait for it, and in the step's last micro-batch, from ZeRO stage 2 on in each,
// gradients are added up over the ranks.
template <class F> void forward_backward(Model<F>& model, const Batch& batch, int micro) {
    const int zero = model.options.zero, in_leaf = model.options.grad_accum / model.leaves_of_rank(), leaf = micro / in_leaf;
    const bool last = micro + 1 == model.options.grad_accum, ranks = model.options.world > 1;
    const MicroStep how{.leaf = leaf, .accumulate = micro % in_leaf > 0, .reduce = ranks && (last || zero >= 2)};
    upload(model, batch);
    model.use_gradient_buffer(zero < 2 ? waiting_subtrees(leaf) : 0);
    model.in_parts = how.reduce || model.gathering;
    if (model.in_parts) micro_step(model, how);
    else replay(model.graph_of_micro_step(how.accumulate), model.stream, [&] { micro_step(model, how); });
    model.in_parts = false;
    if ((micro + 1) % in_leaf) return;
    copy_on_device(model.own_sums() + leaf, model.loss_sum, sizeof(double), model.stream);
    if (!last && zero < 2) return add_to_subtrees(model, leaf, last, 0, model.parameters.elements, model.stream);
    reduce_gradients(model, WHOLE_MODEL, leaf);
    if (last) finish_reduction(model);
}

// AdamW, or Muon for matrices, with the gradient cut to --grad-clip, unless the step guard skips it, as loss or norm are outliers or not finite: decided on the
// device, which need not wait for the host. What it decided is in model.host_step_stats when model.step_checked is reached. Steps count from 0.
// From ZeRO stage 1 on each rank updates its own elements, which then go to all.
template <class F> void update(Model<F>& model, const Options& opt, double lr, int step) {
    const stream_t stream = model.stream;
    const StepLimits limits{.grad_clip = opt.grad_clip, .skip_loss_z = opt.skip_loss_z, .skip_grad_z = opt.skip_grad_z};
    guard_step(model.step_stats, model.history, model.sums, model.sums_order, (size_t)model.options.leaves, model.partition.chunks,
               (double)model.N() * model.options.grad_accum * model.options.world, limits, stream);
    if (step % VERIFY_STATE_EVERY == 0) verify_state(model);
    const Segment* segments = model.segments;
    for (size_t i = 0; i < model.owned.size(); i++) {
        const Owned& o = model.owned[i];
        if (o.group == MUON) continue;
        const size_t at = o.range.begin, n_segments = model.owned_segments[i].size();
        AdamW hyper{.lr = (float)group_lr(opt, o.group, lr), .beta1 = (float)opt.beta1, .beta2 = (float)opt.beta2, .eps = (float)opt.eps,
                    .weight_decay = (float)scheduled_decay(opt, opt.weight_decay, lr), .t = step + 1, .seed = opt.seed, .first = at};
        adamw_update(model.options.zero < 3 ? model.params + at : model.param_shard + o.at, model.master ? model.master + o.at : nullptr, model.gradients(0) + (model.options.zero < 2 ? at : o.at), model.m + o.at, model.v + o.v_at, segments,
                     (int)n_segments, model.step_stats, o.range.size(), hyper, stream);
        segments += n_segments;
    }
    const MuonMatrix* matrices = model.muon_matrices;
    for (const MuonGroup& g : model.muon_groups) {
        const Muon hyper{.lr = (float)group_lr(opt, MUON, lr), .momentum = (float)muon_momentum(opt, step), .weight_decay = (float)scheduled_decay(opt, opt.muon_weight_decay, lr), .t = step + 1, .seed = opt.seed};
        muon_update(model.options.zero < 3 ? model.params : model.param_shard, model.master, model.gradients(0), model.m, matrices, model.muon_scratch, model.step_stats,
                    g.matrices.size(), g.rows, g.cols, hyper, stream);
        matrices += g.matrices.size();
    }
    copy_to_host(model.host_step_stats, model.step_stats, sizeof(StepStats), stream);  // with what the updates saw
    model.step_checked.record(stream);
    gather_weights(model);
    if ((step + 1) % VERIFY_STATE_EVERY == 0) keep_sums_of_state(model);
}

// ---------------------------------------------------------------------------------------------------------------------
// The run

template <class F> void train(Run& run, Model<F>& model, Peak machine, const std::vector<EvalSet>& eval_sets) {
    const Options& opt = run.opt;
    const Comm& comm = run.comm;
    const double tokens = (double)run.B * run.T * run.grad_accum * comm.world, flops = tokens * flops_per_token(run.config, run.T);
    const double peak = machine.flops;
    print_banner(run, model, device_name() + ", " + gemm_path<F>(), machine);

    std::optional<DataLoader> data, val_data;
    if (!run.train.empty()) data.emplace(run.train, data_options(run, true), model.host_batches, (int)model.training_slots(), (int)model.held_batches()), data->seek(run.position);
    if (!run.val.empty()) val_data.emplace(run.val, data_options(run, false), model.host_batches + model.training_slots() * 2 * model.N(), (int)model.VALIDATION_SLOTS);
    StepClock clock(opt.minutes, run.seconds);
    if (run.steps < 0) run.steps = opt.minutes > 0 ? INT_MAX : (int)std::clamp((double)data->tokens() / tokens, 1.0, (double)INT_MAX);
    if (clock.steps(run.first_step, 0, comm) <= run.first_step) run.steps = run.first_step;
    Confirmation confirmation(run);
    if (nothing_to_do(run, (val_data && opt.val_every) + eval_sets.size())) return confirmation.prune(run.first_step);  // a kill may have come before it
    // what only validates adds to the logs; what trains again cuts them to where its checkpoint was written
    Log log(run.out, comm.rank == 0, run.resumed && opt.steps == 0 ? Log::end_of(run.out) : run.log_position);
    // options are of any length, and a prompt may be long
    log.record("{\"run\": " + options_json(opt) + ", \"given\": " + names_json(given_options(opt)) + ", \"chosen\": " + names_json(opt.chosen) +
               format(", \"version\": \"%s\", \"machine\": \"%s\", \"peak_flops_per_s\": %.5g, \"parameters\": %zu, \"first_step\": %d, \"steps\": %d, "
                      "\"tokens_per_step\": %.0f, \"batch\": %d}", VERSION, BACKEND, peak, model.parameters.count(), run.first_step, run.steps, tokens, run.B));

    StepReporter reporter(model, log, {.steps = run.steps, .tokens = tokens, .flops = flops, .peak = peak}, run.record, opt.comm_timeout);
    const Clock::time_point start = Clock::now();

    Saves<F> saves(run, model, data, val_data, log, confirmation, reporter);
    const auto stopping = [&] { return comm.any(stop_requested()); };  // a signal to one rank is for all
    uint64_t position = run.position;  // of the data behind the last step
    // Reports the step before this one. True: it did not pass the step guard, and the run is back at an earlier one.
    const auto went_back = [&] {
        reporter.report();
        const StepVerdict verdict = reporter.take_verdict();
        if (verdict.step < 0) return false;
        if (!verdict.failed.empty()) saves.finish(verdict.step - 1);  // what is said against checkpoints is said of this one too
        confirmation.look(verdict);
        if (verdict.failed.empty()) return false;
        flight_recorder().deadline = reporter.deadline_between_steps();
        const bool is_back = roll_back(run, model, *data, log, confirmation, verdict, position);
        if (is_back) reporter.forget(), saves.forget_owed();
        comm.barrier();
        flight_recorder().deadline = reporter.deadline();
        return is_back;
    };
    for (int step = run.first_step;; step++) {
        const double steps = std::min<double>(run.steps, clock.steps(step, seconds_since(start), comm));  // in all, as far as is known
        bool last = step >= steps;
        const bool validates = val_data && every(opt.val_every, step, last), evaluates = !eval_sets.empty() && every(opt.val_every, step, last);
        const bool can_sample = run.has_tokenizer && (step > 0 || was_given(opt, "prompt")), samples = can_sample && every(opt.sample_every, step, last);
        flight_recorder().step = step;
        // what ranks tell each other after each step; one that waits for another's disk would hold up all, so that a checkpoint waits for all disks
        enum : unsigned char { STOPS = 1, SAVES = 2, WRITES = 4 };
        const unsigned char said = comm.any_bits((unsigned char)((stop_requested() ? STOPS : 0) | (take_save_request() ? SAVES : 0) | (saves.is_writing() ? WRITES : 0)));
        if (said & SAVES) saves.ask();
        if (!(said & WRITES)) saves.finish(step - 1);  // of this step it may not be known yet
        const bool stops = said & STOPS, is_due = saves.are_due(step, last);
        // once in a while
        if (last || stops || validates || evaluates || samples || is_due || saves.confirms(step)) {
            if (went_back()) {
                step = run.first_step - 1;
                continue;
            }
            flight_recorder().deadline = reporter.deadline_between_steps();
            if (last || stops || is_due || (validates && opt.patience)) saves.finish(step);
            run.seconds = clock.seconds();
            saves.begin_step(step, last);
            if (is_due) saves.save_due();
            if (validates && !stopping()) {
                flight_recorder().deadline = reporter.deadline();  // of a batch, which is no more than a step
                const double loss = validate(run, model, *val_data, step, log);
                flight_recorder().deadline = reporter.deadline_between_steps();
                if (opt.patience && opt.steps != 0 && !stopping()) last = saves.keep_best(loss) || last;
                if (last) saves.finish(step);
            }
            if (can_sample && every(opt.sample_every, step, last) && !stopping() && (comm.rank == 0 || opt.zero >= 3)) log.sample(step, print_sample(model, run.tokenizer, opt.prompt, opt.special != 0, opt.sample_tokens, sampler_options(opt), opt.seed, step));
            for (const EvalSet& set : eval_sets)  // with each validation; completing answers takes long: at the end only
                if ((last || (evaluates && step > 0 && !set.greedy)) && !stopping())
                    evaluate(model, run.tokenizer, set, comm, step, log, last && !run.out.empty() ? run.out + "/eval_" + set.name + ".jsonl" : "");
            if (stopping() && saves.interrupt()) break;  // in whatever of this it came
            if (last) { saves.end(); break; }
            saves.finish_written();
            comm.barrier();  // those that had less to do wait here, where there is time, and not in the step
            reporter.restart_clock();
        }

        flight_recorder().deadline = reporter.deadline();
        // one step: gradients accumulate over the micro-batches, are reduced over the ranks, and applied once
        follow_record(run, step, *data, log);
        const uint64_t from = data->position();
        const auto gradients = [&] { for (int micro = 0; micro < run.grad_accum; micro++) forward_backward(model, data->next(), micro); };
        gradients();
        if (opt.verify_steps && step % opt.verify_steps == 0) verify_gradients(model, [&] { synchronize(model.stream), data->seek(from), gradients(); });
        if (went_back()) {  // the step before this one, whose statistics this one's will overwrite
            step = run.first_step - 1;
            continue;
        }
        const double lr = !run.record.empty() ? run.record[(size_t)step].lr
                        : learning_rate(opt.schedule, opt.lr, step, clock.warmup(opt.warmup, steps), steps, opt.final_lr_frac, opt.cooldown);
        update(model, opt, lr, step);
        position = data->position();
        if ((step + 1) % WEIGHTS_EVERY == 0) check_same_weights(model, comm, step + 1);
        reporter.launched(step, lr, clock.seconds_left());
        if (model.step_checked.reached()) reporter.report();
    }
    if (saves.is_asked() || take_save_request()) log.say("SIGUSR1: no checkpoint: the run ends");
}

template <class F> void run_trainer(Run& run, const std::vector<EvalSet>& eval_sets) {
    const Options& opt = run.opt;
    std::unique_ptr<Model<F>> model = plan_model<F>(run);
    finish_preparing(run);
    if (!opt.plan.empty()) return print_plan(run, *model);
    const Peak peak = opt.chat.empty() ? find_peak<F>(opt) : Peak{};  // takes memory of its own for a moment
    model->comm = run.comm;
    model->allocate();
    if (const std::string windows = run.comm.windows(); !windows.empty()) printf("windows  %s\n", windows.c_str());
    if (run.weights.empty()) initialize(*model, opt.init_std, opt.seed, opt.embed_std);
    else if (is_bin_model(run.weights)) load_bin(*model, BinModel(run.weights));
    else if (run.resumed && opt.steps != 0) load_training_state(run, *model, run.weights);
    else run.prefix = load_folder(*model, run.weights);
    if (opt.zero >= 3) gather_weights(*model);
    // warm-up: loads kernels and autotunes; results are discarded; with real weights, as GPUs run slower on non-zero data; what a leaf does, which is the
    // same for any number of ranks
    model->fetches = false;  // each rank alone
    if (opt.steps != 0) autotune_together(run.comm, model->stream, opt.cache, run.autotuned, [&] {
        for (int micro = 0; micro < std::min(2, run.grad_accum / model->leaves_of_rank()); micro++) micro_step(*model, {.accumulate = micro > 0});
    });
    model->fetches = true;
    if (!opt.chat.empty()) return chat(*model, run);
    train(run, *model, peak, eval_sets);
    if (!opt.export_bin.empty()) {
        if (run.comm.any(stop_requested())) printf("--export-bin: interrupted: %s is not written\n", on_one_line(opt.export_bin).c_str());
        else save_bin(*model, opt.export_bin);
    }
    run.comm.leave();
}

#ifndef LLMC_NO_MAIN  // tests include this file and bring their own
int main(int argc, char** argv) {
    hold_save_requests();
    open_standard_files();
    check_stack();
    die_when_memory_ends();
    speak_as(find_place(-1, 1, 0));
    Options given = parse_options(argc, argv);
    const Place place = place_of(given);
    if (const int ranks = ranks_to_start(given, place); ranks > 1) return run_children(ranks, argv, {.shared_bytes = shared_memory_bytes(ranks)});
    speak_as(place);
    if (place.world == 1) refuse_without_effect(given);
    Record record = open_record(given);
    set_chat_options(given);
    catch_signals();
    if (place.world > 1 && !given.chat.empty()) die_with(EXIT_USAGE, "--chat: one process talks, but this is one of %d (%s)", place.world, place.by.c_str());
    const Comm comm = open_comm(place, meeting_of(given, place));
    if (given.plan.empty()) given.nproc = comm.world;
    choose_threads(given.threads, given.plan.empty() ? cores_of_rank(comm) : planned_cores_of_rank(given));
    std::vector<EvalSet> eval_sets = open_eval_sets(given.eval, given.hellaswag != 0);
    Run run = prepare(given, comm, std::any_of(eval_sets.begin(), eval_sets.end(), [](const EvalSet& set) { return set.vocabulary == 0; }));
    run.record = std::move(record);
    const Options& opt = run.opt;
    if (const std::string error = model_error(run); !error.empty()) die_with(EXIT_USAGE, "%s", error.c_str());
    const bool encodes = opt.plan.empty() || run.has_tokenizer;  // --plan without a tokenizer plans for the longest rows there can be
    if (encodes) for (EvalSet& set : eval_sets) encode_eval_set(set, run.has_tokenizer ? &run.tokenizer : nullptr, run.config.longest_row(), run.config.V);
    for (const EvalSet& set : eval_sets) {
        run.eval_T = std::max(run.eval_T, encodes ? set.longest : run.config.longest_row());
        if (set.greedy) run.complete_T = std::max(run.complete_T, encodes ? set.longest_completion : run.config.longest_row());
    }
    if (opt.precision == "bf16") run_trainer<bf16>(run, eval_sets);
    else run_trainer<float>(run, eval_sets);
    if (opt.steps == 0 && stop_requested()) return stop_exit_code();  // interrupted training goes on; what only validates has no result
    const int code = exit_code_of_output();
    return opt.steps == 0 || !opt.plan.empty() ? code : 0;  // of training all is in the logs
}
#endif
