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
#include "llmc/comm/comm.h"
#include "llmc/data/data.h"
#include "llmc/io/checkpoint.h"
#include "llmc/model/bin_model.h"
#include "llmc/model/flops.h"
#include "llmc/model/generate.h"
#include "llmc/model/model.h"
#include "llmc/model/model_files.h"
#include "llmc/train/chat.h"
#include "llmc/train/clock.h"
#include "llmc/train/eval.h"
#include "llmc/train/log.h"
#include "llmc/train/options.h"
#include "llmc/train/peak.h"
#include "llmc/train/plan.h"
#include "llmc/train/replay.h"
#include "llmc/train/run.h"
#include "llmc/train/schedule.h"
#include "llmc/train/step_reporter.h"

// ---------------------------------------------------------------------------------------------------------------------
// Forward

// qkv -> atty
template <class F> void attend(const Model<F>& model, const Block<F>& b, const Attend& how) {
    const int C = model.config.C, NH = model.config.NH;
    if (how.cached) attention_cached(b.atty, b.kcache, b.vcache, b.qkv, how.T, how.pos, C, NH, model.stream);
    else attention_forward(b.atty, b.lse, b.qkv, how.by_document ? b.starts : nullptr, how.B, how.T, C, NH, model.stream);
}

// A block up to its MLP's hidden layer: residual, ln1 -> residual2, fch_gelu, and all that the backward pass reads.
template <class F> void forward_block(Model<F>& model, const Block<F>& b, const F* residual, const Attend& how) {
    const int C = model.config.C, QKV = model.config.QKV(), FF = model.config.FF;
    const float eps = (float)model.config.eps;
    const size_t N = (size_t)how.B * how.T;
    const stream_t stream = model.stream;
    matmul_forward(b.qkv, b.ln1, b.qkvw, b.qkvb, N, C, QKV, {}, stream);
    attend(model, b, how);
    matmul_forward(b.branch, b.atty, b.attprojw, b.attprojb, N, C, C, {}, stream);
    residual_layernorm_forward(b.residual2, b.ln2, b.ln2_mean, b.ln2_rstd, residual, b.branch, b.ln2w, b.ln2b, N, C, eps, stream);
    matmul_forward(b.fch_gelu, b.ln2, b.fcw, b.fcb, N, C, FF, {.pre_gelu = b.fch}, stream);
}

// The trunk: tokens (B, T) -> lnf (B, T, C).
template <class F> void forward_trunk(Model<F>& model, const int* tokens, const Attend& how) {
    const int C = model.config.C, FF = model.config.FF, L = model.config.L;
    const float eps = (float)model.config.eps;
    const size_t N = (size_t)how.B * how.T;
    const stream_t stream = model.stream;
    const Block<F>& first = model.tensors();

    embedding_forward(first.encoded, tokens, first.wte, first.wpe, how.B, how.T, C, how.pos, stream);
    layernorm_forward(first.ln1, first.ln1_mean, first.ln1_rstd, first.encoded, first.ln1w, first.ln1b, N, C, eps, stream);
    const F* residual = first.encoded;
    for (int l = 0; l < L; l++) {
        const Block<F>& b = model.block(l);
        forward_block(model, b, residual, how);
        matmul_forward(b.branch, b.fch_gelu, b.fcprojw, b.fcprojb, N, FF, C, {}, stream);
        // the sum and the LayerNorm that follows it, which is the next block's first or the model's last
        if (l + 1 < L) {
            const Block<F>& n = model.block(l + 1);
            residual_layernorm_forward(b.residual3, n.ln1, n.ln1_mean, n.ln1_rstd, b.residual2, b.branch, n.ln1w, n.ln1b, N, C, eps, stream);
        } else {
            residual_layernorm_forward(b.residual3, b.lnf, b.lnf_mean, b.lnf_rstd, b.residual2, b.branch, b.lnfw, b.lnfb, N, C, eps, stream);
        }
        residual = b.residual3;
    }
}

template <class F> void forward(Model<F>& model) {
    const int B = model.options.B, T = model.options.T;
    if (const Block<F>& b = model.tensors(); b.starts) document_starts(b.starts, model.tokens, model.options.mask_eot, B, T, model.stream);
    forward_trunk(model, model.tokens, {.B = B, .T = T});
}

// The classifier, a chunk of rows at a time, so that the logits of the whole batch never exist: lnf -> losses, and if
// `backward`, dlnf = and dhead = or +=, by way of the logits' gradient, which overwrites the logits. Of the first N rows.
template <class F> void classify(Model<F>& model, size_t N, float dloss, bool backward, bool accumulate) {
    const Block<F>& b = model.tensors();
    const int C = model.config.C, V = model.config.V, Vp = model.config.Vp();
    const int* targets = model.targets();
    for (size_t at = 0; at < N; at += model.classifier_chunk()) {
        size_t n = std::min(model.classifier_chunk(), N - at);
        matmul_forward(b.logits, b.lnf + at * C, b.head(), (const F*)nullptr, n, C, Vp, {}, model.stream);
        fused_classifier(b.logits, b.losses + at, targets + at, dloss, n, V, Vp, backward, model.stream);
        if (!backward) continue;
        matmul_backward_input(b.dlnf + at * C, b.logits, b.head(), n, C, Vp, {}, model.stream);
        matmul_backward_weight(b.dhead(), (float*)nullptr, b.logits, b.lnf + at * C, n, C, Vp, accumulate || at > 0, model.stream);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Backward: every weight's gradient = or += (accumulate); the forward, line by line, from its end

template <class F> void backward(Model<F>& model, bool accumulate) {
    const int B = model.options.B, T = model.options.T, recompute = model.options.recompute;
    const int C = model.config.C, NH = model.config.NH, L = model.config.L, QKV = model.config.QKV(), FF = model.config.FF;
    const float eps = (float)model.config.eps;
    const size_t N = (size_t)B * T;
    const stream_t stream = model.stream;

    const Block<F>& last = model.block(L - 1);
    layernorm_backward(last.dresidual, last.dlnfw, last.dlnfb, last.dlnf, last.residual3, last.lnf_mean, last.lnf_rstd,
                       last.lnfw, N, C, {.accumulate = accumulate}, stream);
    for (int l = L - 1; l >= 0; l--) {
        const Block<F>& b = model.block(l);
        const F* residual = l == 0 ? b.encoded : model.block(l - 1).residual3;
        const int again = l < L - 1 ? recompute : 0;  // of the last block everything is still there

        if (again == 3) {
            layernorm_forward(b.ln1, b.ln1_mean, b.ln1_rstd, residual, b.ln1w, b.ln1b, N, C, eps, stream);
            forward_block(model, b, residual, {.B = B, .T = T});
        }
        if (again == 1 || again == 2) gelu_forward(b.fch_gelu, b.fch, N * FF, stream);
        matmul_backward_weight(b.dfcprojw, b.dfcprojb, b.dresidual, b.fch_gelu, N, FF, C, accumulate, stream);
        matmul_backward_input(b.dfch, b.dresidual, b.fcprojw, N, FF, C, {.pre_gelu = b.fch}, stream);
        if (again == 2) layernorm_forward(b.ln2, b.ln2_mean, b.ln2_rstd, b.residual2, b.ln2w, b.ln2b, N, C, eps, stream);
        matmul_backward_weight(b.dfcw, b.dfcb, b.dfch, b.ln2, N, C, FF, accumulate, stream);
        matmul_backward_input(b.dln, b.dfch, b.fcw, N, C, FF, {}, stream);
        layernorm_backward(b.dresidual, b.dln2w, b.dln2b, b.dln, b.residual2, b.ln2_mean, b.ln2_rstd, b.ln2w, N, C,
                           {.accumulate = accumulate, .add_to_dinp = true}, stream);

        matmul_backward_weight(b.dattprojw, b.dattprojb, b.dresidual, b.atty, N, C, C, accumulate, stream);
        matmul_backward_input(b.datty, b.dresidual, b.attprojw, N, C, C, {}, stream);
        attention_backward(b.dqkv, b.datty, b.atty, b.lse, b.qkv, b.starts, b.dattention, B, T, C, NH, stream);
        if (again == 2) layernorm_forward(b.ln1, b.ln1_mean, b.ln1_rstd, residual, b.ln1w, b.ln1b, N, C, eps, stream);
        matmul_backward_weight(b.dqkvw, b.dqkvb, b.dqkv, b.ln1, N, C, QKV, accumulate, stream);
        matmul_backward_input(b.dln, b.dqkv, b.qkvw, N, C, QKV, {}, stream);
        layernorm_backward(b.dresidual, b.dln1w, b.dln1b, b.dln, residual, b.ln1_mean, b.ln1_rstd, b.ln1w, N, C,
                           {.accumulate = accumulate, .add_to_dinp = true}, stream);
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
template <class F> void micro_step(Model<F>& model, bool accumulate, const Comm& comm) {
    const size_t N = model.N();
    const float dloss = 1.0f / ((float)N * (float)model.options.grad_accum * (float)comm.world);
    forward(model);
    classify(model, N, dloss, true, accumulate);
    sum_losses(model.loss_sum, model.tensors().losses, N, accumulate, model.stream);
    backward(model, accumulate);  // from here on the memory of the losses is used by others
}

// One micro-batch, the first of a step or one that adds to it, and after the last one the gradients' sum over the ranks.
template <class F> void forward_backward(Model<F>& model, const Batch& batch, int micro, const Comm& comm) {
    upload(model, batch);
    replay(model.micro_steps[micro > 0], model.stream, [&] { micro_step(model, micro > 0, comm); });
    if (micro == model.options.grad_accum - 1) comm.reduce_gradients(model.grads, model.parameters.elements);
}

// AdamW with the gradient cut to --grad-clip, unless the step guard skips it, as loss or norm are outliers or not finite: decided on the
// device, which need not wait for the host. What it decided is in model.host_step_stats when model.step_checked is reached. Steps count from 0.
template <class F> void update(Model<F>& model, const Options& opt, double lr, int step, const Comm& comm) {
    const stream_t stream = model.stream;
    const size_t n = model.parameters.elements;
    const StepLimits limits{.grad_clip = opt.grad_clip, .skip_loss_z = opt.skip_loss_z, .skip_grad_z = opt.skip_grad_z};
    global_norm_squared(model.norm_squared, model.grads, n, stream);
    guard_step(model.step_stats, model.history, model.loss_sum, model.norm_squared,
               (double)model.N() * model.options.grad_accum * comm.world, limits, stream);
    copy_to_host(model.host_step_stats, model.step_stats, sizeof(StepStats), stream);
    record(model.step_checked, stream);
    AdamW hyper{.lr = (float)lr, .beta1 = (float)opt.beta1, .beta2 = (float)opt.beta2, .eps = (float)opt.eps,
                .weight_decay = (float)opt.weight_decay, .t = step + 1, .seed = opt.seed};
    adamw_update(model.params, model.master, model.grads, model.m, model.v, model.segments, (int)model.parameters.all.size(),
                 model.step_stats, n, hyper, stream);
}

// The losses and norms against which the next ones are checked.
template <class F> void set_history(Model<F>& model, const History& history) {
    *model.host_history = history;
    copy_to_device(model.history, model.host_history, sizeof(History), model.stream);
    synchronize(model.stream);
}
template <class F> const History& get_history(Model<F>& model) {
    copy_to_host(model.host_history, model.history, sizeof(History), model.stream);
    synchronize(model.stream);
    return *model.host_history;
}

// Losses of a batch without gradients: their sum, and the number of targets that count.
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

// ---------------------------------------------------------------------------------------------------------------------
// The run

// `log`, `best`: as they were before this step's validation, which a run that goes on from here makes again.
template <class F> void save_checkpoint(Run& run, Model<F>& model, int step, uint64_t position, Log::Position log, const Best& best) {
    CheckpointWriter checkpoint(run.out, step);
    Json trainer = Json::object();
    trainer.add("version", VERSION).add("step", step).add("position", position);
    trainer.add("seconds", run.seconds).add("main_log", log.main_log).add("metrics", log.metrics);
    trainer.add("train_tokens", count_tokens(run.train)).add("val_tokens", count_tokens(run.val)).add("best", best_to_json(best));
    Json losses = Json::array(), norms = Json::array(), options = Json::object(), chosen = Json::array();
    const History& history = get_history(model);
    for (int i = 0; i < history.losses.count; i++) losses.push(history.losses.values[i]), norms.push(history.norms.values[i]);
    for (auto& [name, value] : describe(run.opt)) options.add(name, value);
    for (const std::string& field : run.opt.chosen) chosen.push(field);
    trainer.add("losses", losses).add("norms", norms).add("options", options).add("chosen", chosen);
    checkpoint.add_text("trainer.json", json_dump(trainer, 2) + "\n");
    checkpoint.add_text("config.json", config_to_json(run.config, run.has_tokenizer ? run.tokenizer.eot() : -1,
                                                      std::is_same_v<F, float> ? "float32" : "bfloat16"));
    if (run.has_tokenizer) checkpoint.add_text("tokenizer.json", run.tokenizer.to_json());
    if (run.has_tokenizer) checkpoint.add_text("tokenizer_config.json", run.tokenizer.config_json());
    save_weights(model, checkpoint, run.prefix);
    if (model.options.train) save_state(model, checkpoint);
    checkpoint.commit();
    prune_checkpoints(run.out, run.opt.keep, run.opt.major, step, run.opt.patience ? best.step : -1);
}

// Loss over `batches` batches of the validation data (0: all of it), from its start; NaN if it is asked to stop meanwhile.
template <class F> double validate(const Run& run, Model<F>& model, DataLoader& data, int step, Log& log) {
    const std::vector<int> lengths = run.has_tokenizer ? run.tokenizer.byte_lengths() : std::vector<int>();
    const uint64_t all = data.batches();
    const uint64_t batches = run.opt.val_batches ? std::min<uint64_t>(run.opt.val_batches, all) : all;
    data.seek(0);
    LossSum sum;
    for (uint64_t i = 0; i < batches; i++) {
        if (stop_requested()) return NAN;
        LossSum batch = batch_loss(model, data.next(), lengths);
        sum.loss += batch.loss, sum.targets += batch.targets, sum.bytes += batch.bytes;
    }
    run.comm.all_reduce_sum(&sum.loss, 1), run.comm.all_reduce_sum(&sum.targets, 1), run.comm.all_reduce_sum(&sum.bytes, 1);
    double bits_per_byte = sum.bytes > 0 ? sum.loss / std::log(2.0) / sum.bytes : NAN;
    log.val(step, sum.loss / sum.targets, bits_per_byte, run.floor);
    return sum.loss / sum.targets;
}

// --patience: a validation that is the best so far has its checkpoint saved, in place of the one that was. True: the run has waited long enough for
// a better one, and ends.
template <class Save> bool keep_best(Run& run, int step, bool last, double loss, const Save& save, Log& log) {
    const Options& opt = run.opt;
    const int before = run.best.step;
    run.best.look(step, loss);
    if (run.best.step == step) {
        save();
        // A last step beside the others is not validated again if the run is made longer: then the one before is the best again.
        const bool is_kept = every(opt.checkpoint_every, before, false) || (opt.major > 0 && before % opt.major == 0) || !every(opt.val_every, step, false);
        if (before >= 0 && before < step && !is_kept && has_checkpoint(run.out, step)) drop_checkpoint(run.out, before);
    }
    if (last || !run.best.gives_up(opt.patience)) return false;
    log.say(format("ends after step %d: %d validations in a row were no better than that of step %d", step, run.best.since, run.best.step));
    save();
    return true;
}

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
    if (run.steps < 0) run.steps = opt.minutes > 0 ? INT_MAX : (int)std::clamp((double)data->rows() * run.T / tokens, 1.0, (double)INT_MAX);
    if (clock.steps(run.first_step, 0, comm) <= run.first_step) run.steps = run.first_step;
    if (nothing_to_do(run, (val_data && opt.val_every) + eval_sets.size())) return;
    // what only validates adds to the logs; what trains again cuts them to where its checkpoint was written
    Log log(run.out, comm.rank == 0, run.resumed && opt.steps == 0 ? Log::end_of(run.out) : run.log_position);
    // options are of any length, and a prompt may be long
    log.record("{\"run\": " + options_json(opt) + ", \"given\": " + names_json(given_options(opt)) + ", \"chosen\": " + names_json(opt.chosen) +
               format(", \"version\": \"%s\", \"machine\": \"%s\", \"peak_flops_per_s\": %.5g, \"parameters\": %zu, \"first_step\": %d, \"steps\": %d, "
                      "\"tokens_per_step\": %.0f, \"batch\": %d}", VERSION, BACKEND, peak, model.parameters.count(), run.first_step, run.steps, tokens, run.B));

    StepReporter reporter(model, log, {.steps = run.steps, .tokens = tokens, .flops = flops, .peak = peak}, run.record);
    const Clock::time_point start = Clock::now();

    const bool resave = run.steps == 0 && !run.out.empty() && !run.resumed;  // -x 0 -o OUT: what was loaded, as a folder of ours
    for (int step = run.first_step;; step++) {
        const double steps = std::min<double>(run.steps, clock.steps(step, seconds_since(start), comm));  // in all, as far as is known
        bool last = step >= steps;
        const bool validates = val_data && every(opt.val_every, step, last), evaluates = !eval_sets.empty() && every(opt.val_every, step, last);
        const bool can_sample = run.has_tokenizer && (step > 0 || was_given(opt, "prompt")), samples = can_sample && every(opt.sample_every, step, last);
        const bool may_save = (step > run.first_step || resave) && opt.checkpoint_every, saves = may_save && every(opt.checkpoint_every, step, last);
        // once in a while
        if (last || stop_requested() || validates || evaluates || samples || saves) {
            reporter.report();
            const Log::Position logged = log.position();
            const Best best = run.best;
            run.seconds = clock.seconds();
            bool saved = false;
            const auto save = [&] {
                if (may_save && !saved) save_checkpoint(run, model, step, data ? data->position() : 0, logged, best);
                saved = true;
            };
            if (saves) save();
            if (validates && !stop_requested()) {
                const double loss = validate(run, model, *val_data, step, log);
                if (opt.patience && opt.steps != 0 && !stop_requested()) last = keep_best(run, step, last, loss, save, log) || last;
            }
            if (can_sample && every(opt.sample_every, step, last) && !stop_requested()) log.sample(step, print_sample(model, run.tokenizer, opt.prompt, opt.special != 0, opt.sample_tokens, sampler_options(opt), opt.seed, step));
            for (const EvalSet& set : eval_sets)  // with each validation; completing answers takes long: at the end only
                if ((last || (evaluates && step > 0 && !set.greedy)) && !stop_requested())
                    evaluate(model, run.tokenizer, set, step, log, last && !run.out.empty() ? run.out + "/eval_" + set.name + ".jsonl" : "");
            if (stop_requested()) {  // in whatever of this it came
                save();
                log.say(format("interrupted after step %d", step));
                break;
            }
            if (last) {
                if (opt.patience && opt.steps != 0 && has_checkpoint(run.out, run.best.step)) log.say(format("best     loss %.4f at step %d: %s", run.best.loss, run.best.step, checkpoint_path(run.out, run.best.step).c_str()));
                break;
            }
            reporter.restart_clock();
        }

        // one step: gradients accumulate over the micro-batches, are reduced after the last one, and applied once
        for (int micro = 0; micro < run.grad_accum; micro++) forward_backward(model, data->next(), micro, comm);
        reporter.report();  // the step before this one, whose statistics this one's will overwrite
        const double lr = !run.record.empty() ? run.record[(size_t)step].lr
                        : learning_rate(opt.schedule, opt.lr, step, clock.warmup(opt.warmup, steps), steps, opt.final_lr_frac);
        update(model, opt, lr, step, comm);
        reporter.launched(step, lr, clock.seconds_left());
        if (reached(model.step_checked)) reporter.report();
    }
}

template <class F> void run_trainer(Run& run, const std::vector<EvalSet>& eval_sets) {
    const Options& opt = run.opt;
    std::unique_ptr<Model<F>> model = plan_model<F>(run);
    finish_preparing(run);
    if (!opt.plan.empty()) return print_plan(run, *model);
    const Peak peak = opt.chat.empty() ? find_peak<F>(opt) : Peak{};  // takes memory of its own for a moment
    model->allocate();
    if (run.weights.empty()) initialize(*model, opt.init_std, opt.seed);
    else if (is_bin_model(run.weights)) load_bin(*model, BinModel(run.weights));
    else run.prefix = load_folder(*model, run.weights);
    if (run.resumed && opt.steps != 0) {
        if (std::string done = load_state(*model, run.weights); !done.empty()) printf("resume   %s\n", done.c_str());
        set_history(*model, run.history);
    }
    // warm-up: loads kernels and autotunes; results are discarded; with real weights, as GPUs run slower on non-zero data
    if (opt.steps != 0) warm_up_and_autotune(model->stream, opt.cache, [&] {
        for (int micro = 0; micro < std::min(2, run.grad_accum); micro++) micro_step(*model, micro > 0, run.comm);
    });
    if (!opt.chat.empty()) return chat(*model, run);
    train(run, *model, peak, eval_sets);
    if (opt.export_bin.empty() || run.comm.rank != 0) return;
    if (stop_requested()) printf("--export-bin: interrupted: %s is not written\n", opt.export_bin.c_str());
    else save_bin(*model, opt.export_bin);
}

#ifndef LLMC_NO_MAIN  // tests include this file and bring their own
int main(int argc, char** argv) {
    open_standard_files();
    Options given = parse_options(argc, argv);
    Record record = open_record(given);
    set_chat_options(given);
    choose_threads(given.threads);
    catch_signals();
    std::vector<EvalSet> eval_sets = open_eval_sets(given.eval, given.hellaswag != 0);
    Run run = prepare(given, std::any_of(eval_sets.begin(), eval_sets.end(), [](const EvalSet& set) { return set.vocabulary == 0; }));
    run.record = std::move(record);
    const Options& opt = run.opt;
    check_model(run.config.C, run.config.NH, attention_backend(opt));
    const bool encodes = opt.plan.empty() || run.has_tokenizer;  // --plan without a tokenizer plans for the longest rows there can be
    if (encodes) for (EvalSet& set : eval_sets) encode_eval_set(set, run.has_tokenizer ? &run.tokenizer : nullptr, run.config.max_T, run.config.V);
    for (const EvalSet& set : eval_sets) {
        run.eval_T = std::max(run.eval_T, encodes ? set.longest : run.config.max_T);
        if (set.greedy) run.complete_T = std::max(run.complete_T, encodes ? set.longest_completion : run.config.max_T);
    }
    if (opt.precision == "bf16") run_trainer<bf16>(run, eval_sets);
    else run_trainer<float>(run, eval_sets);
    return stop_requested() && opt.steps == 0 ? stop_exit_code() : 0;  // interrupted training goes on; what only validates has no result
}
#endif
