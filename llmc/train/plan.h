// plan.h: what a run will take: the memory of each batch, and --plan, which says it without a run.
#pragma once
#include <unistd.h>
#include <algorithm>
#include <memory>
#include <string>
#include "../base/text_format.h"
#include "../comm/comm.h"
#include "../model/flops.h"
#include "../model/gpus.h"
#include "../model/model.h"
#include "options.h"
#include "peak.h"
#include "run.h"

// What is about to happen, in a few lines.
template <class F> void print_banner(const Run& run, const Model<F>& model, const std::string& machine, Peak peak) {
    if (run.comm.rank != 0) return;
    const Config& c = run.config;
    const double tokens = (double)run.B * run.T * run.grad_accum * run.opt.nproc;
    const std::string context = run.T < c.max_T ? format("%d of the model's %d", run.T, c.max_T) : std::to_string(c.max_T);
    printf("%smodel    %d layers, width %d, %d heads, context %s, vocabulary %d: %s parameters, %s\n", run.opt.said.c_str(), c.L, c.C, c.NH, context.c_str(),
           c.V, human((double)model.parameters.count()).c_str(), run.opt.precision.c_str());
    if (!run.weights.empty()) printf("weights  %s\n", run.weights.c_str());
    if (!run.tokenizer_is.empty()) printf("tokenizer %s\n", run.tokenizer_is.c_str());
    if (!run.train.empty()) printf("data     %s tokens to train on, %s to validate on\n", human((double)count_tokens(run.train)).c_str(),
                                   human((double)count_tokens(run.val)).c_str());
    printf("step     %d x %d tokens x %d micro-batches x %d ranks = %s tokens, %sFLOP\n", run.B, run.T, run.grad_accum,
           run.opt.nproc, human(tokens).c_str(), human(tokens * flops_per_token(c, run.T)).c_str());
    printf("machine  %s, peak %sFLOP/s %s\n", machine.c_str(), human(peak.flops).c_str(), peak.source);
    if (const std::string path = attention_path<F>(model.stream_options()); !path.empty()) printf("attention %s\n", path.c_str());
    if (run.eval_T > run.T && run.opt.steps != 0)
        printf("eval     rows of up to %d tokens, as the model's context is %d; this run trains the first %d positions\n", run.eval_T, c.max_T, run.T);
    if (!run.out.empty()) printf("out      %s\n", run.out.c_str());
    model.device.print("memory of the device");
    model.pinned.print("memory of the host");
    fflush(stdout);
}

// Bytes of the GPU named, or of the device that is here, and those that a plan may take of them.
struct DeviceMemory {
    double all, usable;
    explicit DeviceMemory(const Gpu* gpu) : all(gpu ? gpu->gib * (1 << 30) : (double)device_memory()), usable((1 - (gpu ? GPU_KEPT_FREE : KEPT_FREE)) * all) {}
};

// --plan: memory and time, for this machine or any GPU, without taking the memory.
template <class F> void print_plan(const Run& run, const Model<F>& model) {
    const Options& opt = run.opt;
    const Gpu* gpu = find_gpu(opt.plan);
    if (!gpu && opt.plan != "here") die_with(EXIT_USAGE, "--plan: '%s' given, must be empty or one of %s", opt.plan.c_str(), gpu_names().c_str());
    const Peak peak = find_peak<F>(opt);
    printf("%s", run.assumed.c_str());
    print_banner(run, model, gpu ? format("%d x %s", opt.nproc, gpu->name) : device_name(), peak);
    double tokens = (double)run.B * run.T * run.grad_accum * opt.nproc, flops = tokens * flops_per_token(run.config, run.T);
    double seconds = flops / (0.5 * peak.flops);
    printf("time     at half the peak: %.3g s a step, %s tokens/s", seconds, human(tokens / seconds).c_str());
    if (const int steps = run.steps - run.first_step; steps > 0)
        printf("; %d steps: %s, %sFLOP, %s tokens", steps, clock_text(seconds * steps).c_str(), human(flops * steps).c_str(), human(tokens * steps).c_str());
    printf("\n");
    const DeviceMemory memory(gpu);
    if ((double)model.device.bytes() > memory.usable)
        printf("         does not fit: %.1f GiB, the device has %.1f to give\n", (double)model.device.bytes() / (1 << 30), memory.usable / (1 << 30));
}

// The plan for a batch; nothing is allocated. --batch auto: the largest that divides the total batch and fits in memory.
template <class F> std::unique_ptr<Model<F>> plan_model(Run& run) {
    const Options& opt = run.opt;
    const Gpu* gpu = find_gpu(opt.plan);
    const DeviceMemory memory(gpu);
    auto plan = [&](int B) {
        int64_t micro = (int64_t)B * run.T * opt.nproc;
        int grad_accum = opt.total_batch ? (int)std::clamp<int64_t>(opt.total_batch / micro, 1, 1 << 20) : 1;
        ModelOptions options{.B = B, .T = run.T, .recompute = opt.recompute, .grad_accum = grad_accum,
                             .shards = opt.zero ? opt.nproc : 1, .train = opt.steps != 0, .master_weights = opt.master_weights != 0,
                             .eval_T = run.eval_T, .complete_T = run.complete_T, .mask_eot = opt.doc_mask ? end_of_text(run) : -1,
                             .separate_buffers = opt.separate_buffers != 0, .kernels = kernel_options(opt), .any_gpu = gpu != nullptr};
        return std::make_unique<Model<F>>(run.config, options);
    };
    if (run.B == 0) {
        const int64_t row = (int64_t)run.T * opt.nproc, rows = opt.total_batch ? opt.total_batch / row : 512;
        if (rows < 1 || (opt.total_batch && opt.total_batch % row))
            die_with(EXIT_USAGE, "--total-batch: %lld given, must be a multiple of seq x ranks = %d x %d = %lld", (long long)opt.total_batch, run.T, opt.nproc, (long long)row);
        for (int B = 1; B <= rows && B <= 512; B++)
            if (rows % B == 0 && (run.B == 0 || (double)plan(B)->device.bytes() <= 0.9 * memory.all)) run.B = B;
        const std::unique_ptr<Model<F>> chosen = plan(run.B);
        printf("--batch auto: %d sequences, %d times a step; %.1f of %.1f GiB\n", run.B, chosen->options.grad_accum, (double)chosen->device.bytes() / (1 << 30), memory.all / (1 << 30));
    }
    auto model = plan(run.B);
    if (!opt.plan.empty()) return model;
    // the batches of two steps wait in the host's memory: many micro-batches may not fit, whatever the device has
    if (const double host = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE); (double)model->pinned.bytes() > host)
        die("out of memory: %d micro-batches a step take %.1f GiB of the host, which has %.1f: a larger --batch or a smaller --total-batch", model->options.grad_accum,
            (double)model->pinned.bytes() / (1 << 30), host / (1 << 30));
    if ((double)model->device.bytes() <= memory.usable) return model;
    for (int recompute = opt.recompute; recompute <= 3; recompute++)
        for (int B = run.B; B >= 1; B /= 2) {
            ModelOptions smaller = model->options;
            smaller.B = B, smaller.recompute = recompute;
            if ((double)Model<F>(run.config, smaller).device.bytes() <= memory.usable)
                die("out of memory: the plan takes %.1f GiB, the device has %.1f to give; --batch %d --recompute %d would fit",
                    (double)model->device.bytes() / (1 << 30), memory.usable / (1 << 30), B, recompute);
        }
    die("out of memory: the plan takes %.1f GiB, the device has %.1f to give, and no batch fits: try a smaller --model or --seq",
        (double)model->device.bytes() / (1 << 30), memory.usable / (1 << 30));
}
