// plan.h: what a run will take: the memory of each batch, and --plan, which says it without a run.
#pragma once
#include <algorithm>
#include <climits>
#include <cmath>
#include <memory>
#include <string>
#include "../base/limits.h"
#include "../base/text_format.h"
#include "../backend.h"
#include "../comm/comm.h"
#include "../layers/gpu_sizes.h"
#include "../model/flops.h"
#include "../model/gpus.h"
#include "../model/model.h"
#include "measured_kernels.h"
#include "options.h"
#include "peak.h"
#include "run.h"
#include "scaling.h"
#include "sizes.h"

template <class F> double logits_gib(const Model<F>& model, size_t rows) { return (double)rows * model.config.Vp() * sizeof(F) / (1 << 30); }

// What is about to happen, in a few lines.
template <class F> void print_banner(const Run& run, const Model<F>& model, const std::string& machine, Peak peak) {
    if (run.comm.rank != 0) return;
    const Config& c = run.config;
    const double tokens = (double)run.B * run.T * run.grad_accum * run.opt.nproc;
    const std::string context = run.T < c.max_T ? format("%d of the model's %d", run.T, c.max_T) : std::to_string(c.max_T);
    const std::string windows = c.window_of(0) ? format("windows of %d (short, short, short, long), ", c.sliding_window) : "", family = c.arch.is_gpt2() ? "" : family_name(c.arch) + ", " + windows;
    const std::string heads = c.arch.names == GPT2_NAMES ? "" : format(" of %d and %d of keys and values, MLP %d", c.HS, c.NKV, c.FF);
    printf("%smodel    %s%d layers, width %d, %d heads%s, context %s, vocabulary %d: %s parameters, %s\n", run.opt.said.c_str(), family.c_str(), c.L, c.C, c.NH, heads.c_str(), context.c_str(),
           c.V, human((double)model.parameters.count()).c_str(), run.opt.precision.c_str());
    if (const int published = published_vocabulary(run.opt.model); run.weights.empty() && published && published != c.V)
        printf("         the published vocabulary is %d; --tokenizer takes its file\n", published);
    if (!run.weights.empty()) printf("weights  %s\n", on_one_line(run.weights).c_str());
    if (!run.tokenizer_is.empty()) printf("tokenizer %s\n", on_one_line(run.tokenizer_is).c_str());
    if (!run.train.empty()) printf("data     %s tokens to train on, %s to validate on\n", human((double)count_tokens(run.train)).c_str(),
                                   human((double)count_tokens(run.val)).c_str());
    const std::string muon = model.options.optimizer == MUON ? format(", Muon's products %sFLOP", human(muon_flops(c)).c_str()) : "";
    printf("step     %d x %d tokens x %d micro-batches x %d ranks = %s tokens, %sFLOP%s\n", run.B, run.T, run.grad_accum,
           run.opt.nproc, human(tokens).c_str(), human(tokens * flops_per_token(c, run.T)).c_str(), muon.c_str());
    if (run.per_node) printf("exchange in two levels: among the %d ranks of a machine, then between %d machines\n", run.per_node, run.opt.nproc / run.per_node);
    if (model.options.train && model.classifier_chunk() < model.N()) printf("classifier %zu rows of logits at a time, of %zu: %.1f GiB for %.1f\n", model.classifier_chunk(), model.N(),
                                                                                            logits_gib(model, model.classifier_chunk()), logits_gib(model, model.N()));
    printf("machine  %s, peak %sFLOP/s %s\n", machine.c_str(), human(peak.flops).c_str(), peak.source);
    if (const std::string path = attention_path<F>(model.stream_options()); !path.empty()) printf("attention %s\n", path.c_str());
    if (run.eval_T > run.T && run.opt.steps != 0)
        printf("eval     rows of up to %d tokens, as the model's context is %d; this run trains the first %d positions\n", run.eval_T, c.max_T, run.T);
    if (!run.out.empty()) printf("out      %s\n", on_one_line(run.out).c_str());
    model.device.print("memory of the device");
    model.pinned.print("memory of the host");
    fflush(stdout);
}

// What the kernels that would run, here or on the GPU of a plan, have no code for; "" if they have.
inline std::string model_error(const Run& run) {
    const Options& opt = run.opt;
    const Config& c = run.config;
    const std::string error = find_gpu(opt.plan) ? gpu_size_error(c.C, c.FF, c.heads()) : size_error(c.C, c.FF, c.heads());
    if (!error.empty()) return format("%s: '%s' given, which has %s", opt.chat.empty() ? "--model" : "--chat", opt.model.c_str(), error.c_str());
    return has_attention(attention_backend(opt)) ? "" : "--attention: 'cudnn' given, but this program was built without cuDNN, whose header cudnn_graph.h make did not find: fastest or ours";
}

// Bytes of the GPU named, or of the device that is here (of a CPU's memory this rank's share), and those that a plan may take of them.
struct DeviceMemory {
    double all, usable;
    DeviceMemory(const Gpu* gpu, const Comm& comm) : all(gpu ? gpu->gib * (1 << 30) : device_memory(comm.local_world)), usable((1 - (gpu ? GPU_KEPT_FREE : KEPT_FREE)) * all) {}
};

// That a model takes of this memory: on a CPU the copy for checkpoints lies there too.
template <class F> double bytes_there(const Model<F>& model, const Gpu* gpu) { return (double)model.device.bytes() + (gpu || RANKS_ARE_GPUS ? 0 : (double)model.snapshot_bytes()); }

// The run on so many of these GPUs, as scaling.h takes it.
template <class F> Cluster cluster_of(const Options& opt, const Gpu& gpu) {
    const int per_node = std::min(opt.nproc, opt.gpus_per_node), nodes = (int)(((int64_t)opt.nproc + per_node - 1) / per_node);
    return {.flops = find_peak<F>(opt).flops / opt.nproc, .fp32 = 1e12 * gpu.fp32, .memory = 1e9 * gpu.memory, .link = 1e9 * gpu.link, .net = 1e9 / 8 * opt.net, .per_node = per_node, .nodes = nodes};
}
template <class F> Workload workload_of(const Run& run, const Model<F>& model) {
    const bool bf16 = !std::is_same_v<F, float>, cudnn = bf16 && run.opt.attention != "ours" && !run.opt.doc_mask;
    const double chunks = std::ceil((double)model.N() / (double)model.classifier_chunk());
    return {.config = run.config, .B = run.B, .T = run.T, .grad_accum = (double)run.grad_accum, .zero = run.opt.zero, .recompute = run.opt.recompute, .size = sizeof(F),
            .master = bf16 && run.opt.master_weights, .muon = model.options.optimizer == MUON, .cudnn = cudnn, .chunks = chunks, .library_adds = run.opt.reduce == "nccl", .exchanged = run.opt.exchange == "bf16" ? 2.0 : 4.0};
}

// Of a GPU that is known: how long a step takes, what of it exchanges cost, and how many GPUs the same step could use. By scaling.h.
inline void print_step(const Workload& w, const Cluster& on, const Gpu& gpu, const Options& opt, const std::string& measured) {
    const Step step = step_time(w, on);
    const Kernels k = micro_batch(w, on);
    printf("cluster  %d x %d %s, %g GB/s each way in a node and %g Gb/s of network for each, ZeRO stage %d\n", on.nodes, on.per_node, gpu.name, gpu.link, opt.net, w.zero);
    const std::string by = measured.empty() ? "roofline" : "those of GPT-2 124M that were measured (" + measured + ")";
    printf("kernels  by %s, ms a micro-batch: products %.3g, attention %.3g, %s %.3g, %s %.3g, classifier %.3g, embedding %.3g, between kernels %.3g\n",
           by.c_str(), 1e3 * k.products, 1e3 * k.attention, w.config.arch.norm == RMSNORM ? "RMSNorm" : "LayerNorm", 1e3 * k.layernorm, MLP_NAMES[w.config.arch.mlp], 1e3 * k.gelu, 1e3 * k.classifier, 1e3 * k.embedding, 1e3 * k.gaps);
    printf("step     ms: compute %.4g, exposed %.3g of %.3g of communication, norm and %s %.3g\n", 1e3 * step.compute, 1e3 * step.exposed, 1e3 * step.communication,
           w.muon ? "optimizer" : "AdamW", 1e3 * step.update);
    const Stop stop = where_it_stops(w, on);
    printf("scaling  limit: %s; this step's tokens can be shared by %d GPUs that each do 80 %% of what one does, then: %s\n", limit_of(w, on), stop.ranks, stop.why);
}

// Memory of each GPU by ZeRO stage, as each would be planned.
template <class F> void print_stages(const Model<F>& model) {
    constexpr double GIB = 1 << 30;
    printf("stages   GiB of each GPU by ZeRO stage: weights + gradients + masters and moments + the rest\n");
    for (int zero = 0; zero <= 3; zero++) {
        ModelOptions options = model.options;
        const bool is_this = zero == options.zero;
        if (!is_this && std::max(zero, options.zero) >= 2) options.leaves = options.world * (zero >= 2 ? std::min(options.grad_accum, INT_MAX / options.world) : 1);  // the default of that stage
        options.zero = options.world > 1 ? zero : 0;
        const Model<F> other(model.config, options);
        const auto gib = [&](const char* category) { return (double)other.device.bytes_of(category) / GIB; };
        const double weights = gib("parameters"), gradients = gib("gradients"), optimizer = gib("master weights") + gib("AdamW moments") + gib("moments"), all = (double)other.device.bytes() / GIB;
        printf("         %d%s %6.2f + %6.2f + %6.2f + %6.2f = %6.2f\n", zero, is_this ? "*" : ":", weights, gradients, optimizer, all - weights - gradients - optimizer, all);
    }
}

// --plan: memory and time, for this machine or any GPU, without taking the memory. Of the run nothing is measured.
template <class F> void print_plan(const Run& run, const Model<F>& model) {
    const Options& opt = run.opt;
    const Gpu* gpu = find_gpu(opt.plan);
    if (!gpu && opt.plan != "here") die_with(EXIT_USAGE, "--%s: '%s' given, must be empty or one of %s", opt.gpu.empty() ? "plan" : "gpu", opt.plan.c_str(), gpu_names().c_str());
    const Peak peak = find_peak<F>(opt);
    printf("%s", run.assumed.c_str());
    print_banner(run, model, gpu ? format("%d x %s", opt.nproc, gpu->name) : device_name(), peak);
    const double tokens = (double)run.B * run.T * run.grad_accum * opt.nproc, flops = tokens * flops_per_token(run.config, run.T);
    const double bytes = (double)model.device.bytes();
    double seconds = (flops + (model.options.optimizer == MUON ? muon_flops(run.config) : 0)) / (0.5 * peak.flops);
    if (!gpu) {
        printf("time     at half the peak: %.3g s a step, %s tokens/s", seconds, human(tokens / seconds).c_str());
    } else {
        Cluster on = cluster_of<F>(opt, *gpu);
        const Workload w = workload_of(run, model);
        const MeasuredKernels measured = std::is_same_v<F, float> && !opt.tf32 ? MeasuredKernels{} : measured_kernels(*gpu, w, on);
        on.reached = measured.reached;
        print_stages(model);
        print_step(w, on, *gpu, opt, measured.from);
        seconds = step_time(w, on).seconds;
        printf("time     by these, not measured: %.4g s a step, %s tokens/s, MFU %.1f %%", seconds, human(tokens / seconds).c_str(), 100 * flops / seconds / peak.flops);
    }
    if (const int steps = run.steps - run.first_step; steps > 0) {
        const double all = seconds * steps;
        printf("; %d steps: %s, %sFLOP, %s tokens", steps, clock_text(all).c_str(), human(flops * steps).c_str(), human(tokens * steps).c_str());
        const double dollars = all / 3600 * opt.nproc * opt.gpu_price;
        if (gpu) printf(", $%s at %g a GPU hour", dollars < 1e6 ? format("%.0f", dollars).c_str() : human(dollars).c_str(), opt.gpu_price);
    }
    printf("\n");
    const DeviceMemory memory(gpu, run.comm);
    if (bytes <= memory.usable && bytes_there(model, gpu) > memory.usable)
        printf("         no room for the copy for checkpoints: training waits while they are written, as with --async-save 0\n");
    if (bytes > memory.usable) printf("         does not fit: %.1f GiB, the device has %.1f to give\n", bytes / (1 << 30), memory.usable / (1 << 30));
}

// The plan for a batch; nothing is allocated. --batch auto: the largest that divides the total batch and fits in memory.
template <class F> std::unique_ptr<Model<F>> plan_model(Run& run) {
    const Options& opt = run.opt;
    const Gpu* gpu = find_gpu(opt.plan);
    const DeviceMemory memory(gpu, run.comm);
    const bool rows_given = was_given(opt, "classifier_rows") && opt.classifier_rows > 0;
    auto plan = [&](int B, int recompute) {
        int64_t micro = (int64_t)B * run.T * opt.nproc;
        int grad_accum = opt.total_batch ? (int)std::clamp<int64_t>(opt.total_batch / micro, 1, 1 << 20) : 1;
        ModelOptions options{.B = B, .T = run.T, .recompute = recompute, .grad_accum = grad_accum,
                             .rank = run.comm.rank, .world = opt.nproc, .zero = opt.nproc > 1 ? opt.zero : 0, .per_node = run.per_node, .leaves = run_detail::leaves_of_step(opt, grad_accum), .reduce = opt.nproc > 1 && opt.reduce == "nccl" ? Reduce::LIBRARY : Reduce::TREE, .exchange_bf16 = opt.nproc > 1 && opt.exchange == "bf16", .optimizer = opt.optimizer == "muon" ? MUON : ADAMW, .train = opt.steps != 0, .master_weights = opt.master_weights != 0,
                             .copy_to_save = opt.async_save && opt.checkpoint_every && opt.steps != 0 && opt.chat.empty(),
                             .eval_T = run.eval_T, .complete_T = run.complete_T, .mask_eot = opt.doc_mask ? end_of_text(run) : -1,
                             .classifier_rows = (size_t)opt.classifier_rows, .separate_buffers = opt.separate_buffers != 0, .kernels = kernel_options(opt), .any_gpu = gpu != nullptr};
        return std::make_unique<Model<F>>(run.config, options);
    };
    const bool is_auto = run.B == 0;
    const int rows_kept = opt.classifier_rows;  // by the checkpoint
    if (is_auto) {
        if (!rows_given) run.opt.classifier_rows = 0;  // a resumed run finds the batch with which it began
        const int64_t row = (int64_t)run.T * opt.nproc, rows = opt.total_batch ? opt.total_batch / row : 512;
        if (rows < 1 || (opt.total_batch && opt.total_batch % row))
            die_with(EXIT_USAGE, "--total-batch: %lld given, must be a multiple of seq x ranks = %d x %d = %lld", (long long)opt.total_batch, run.T, opt.nproc, (long long)row);
        const auto fits_leaves = [&](int B) {
            const int64_t grad_accum = opt.total_batch ? rows / B : 1, micro_batches = grad_accum * opt.nproc;
            return opt.leaves == 0 || (opt.zero >= 2 && opt.nproc > 1 ? micro_batches == opt.leaves : micro_batches % opt.leaves == 0);
        };
        for (int B = 1; B <= rows && B <= 512; B++)
            if (rows % B == 0 && fits_leaves(B) && (run.B == 0 || bytes_there(*plan(B, opt.recompute), gpu) <= 0.9 * memory.all)) run.B = B;
        std::vector<int> all((size_t)run.comm.world, run.B);
        run.comm.all_gather(all);
        run.B = std::max(*std::min_element(all.begin(), all.end()), 1);  // what fits on every rank
        run.opt.classifier_rows = rows_kept;
    }
    if (opt.classifier_rows == 0 && opt.steps != 0) {
        const Config& c = run.config;
        std::vector<int> all((size_t)run.comm.world, (int)choose_classifier_rows((size_t)run.B * (size_t)run.T, (size_t)c.Vp(), (size_t)c.hidden(), sizeof(F), gpu ? memory.all : (double)card_memory()));
        run.comm.all_gather(all);
        run.opt.classifier_rows = *std::min_element(all.begin(), all.end());  // for the checkpoint
    }
    auto model = plan(run.B, opt.recompute);
    if (!rows_given && run.comm.any((double)model->device.bytes() > memory.usable)) {  // where they do not fit, the fewest
        const size_t rows = model->classifier_chunk(), least = least_classifier_rows(model->N(), (size_t)run.config.Vp(), (size_t)run.config.hidden());
        run.opt.classifier_rows = (int)std::min(rows, least);
        model = plan(run.B, opt.recompute);
        if (model->classifier_chunk() < rows && !run.comm.any((double)model->device.bytes() > memory.usable))
            printf("--classifier-rows %zu: there is no room for the logits of %zu rows at a time%s\n", model->classifier_chunk(), rows, run.resumed ? ", as the checkpoint has them: bits may change" : ", with which bits are others");
    }
    if (is_auto) printf("--batch auto: %d sequences, %d times a step; %.1f of %.1f GiB\n", run.B, model->options.grad_accum, (double)model->device.bytes() / (1 << 30), memory.all / (1 << 30));
    if (!opt.plan.empty()) return model;
    const double host = usable_memory(run.comm.local_world);
    // what is only there so that training need not wait is left out where it does not fit
    const double copy = (double)model->snapshot_bytes() / (1 << 30);
    if (run.comm.any(copy > 0 && ((double)model->pinned.bytes() > host || bytes_there(*model, gpu) > memory.usable))) {
        if (was_given(opt, "async_save")) die("--async-save: 1 given, but there is no room for the copy of %.1f GiB; 0 needs none", copy);
        if (run.comm.rank == 0) printf("--async-save 0: there is no room for a copy of %.1f GiB: training waits while checkpoints are written\n", copy);
        run.opt.async_save = 0;
        model = plan(run.B, opt.recompute);
    }
    // the batches of two steps wait in the host's memory: many micro-batches may not fit, whatever the device has
    if ((double)model->pinned.bytes() > host)
        die("out of memory: %d micro-batches a step take %.1f GiB of the host, which has %.1f: a larger --batch or a smaller --total-batch", model->options.grad_accum,
            (double)model->pinned.bytes() / (1 << 30), host / (1 << 30));
    if ((double)model->device.bytes() <= memory.usable) return model;
    for (int recompute = opt.recompute; recompute <= 3; recompute++)
        for (int B = run.B; B >= 1; B /= 2) {
            const std::unique_ptr<Model<F>> smaller = plan(B, recompute);
            if ((double)smaller->device.bytes() <= memory.usable)
                die("out of memory: the plan takes %.1f GiB, the device has %.1f to give; --batch %d --recompute %d would fit",
                    (double)model->device.bytes() / (1 << 30), memory.usable / (1 << 30), B, recompute);
        }
    die("out of memory: the plan takes %.1f GiB, the device has %.1f to give, and no batch fits: try a smaller --model or --seq",
        (double)model->device.bytes() / (1 << 30), memory.usable / (1 << 30));
}
