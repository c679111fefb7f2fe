// step_time.h: the tables of doc/step_time.md: what scaling.h counts of each kernel of a step, beside the roofline, and what the step would take if the
// count were wrong in one thing after another. Nothing is measured.
#pragma once
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>
#include "../../llmc/train/plan.h"
#include "../../llmc/train/prepare.h"

namespace {
constexpr double MEMORY_REACHED = 0.9;  // by a kernel that only moves bytes: 90 % of a copy was measured for LayerNorm's forward (dev/LOG.md, 49)

// So many launches of one kernel; products by FLOPs, or bytes, whichever takes longer.
struct Launches { double times; KernelCount count; };
double roofline(const KernelCount& k, const Cluster& on) { return std::max(k.flops / on.flops, k.bytes / on.memory); }

void print_kernel(const Launches& l, const Workload& w, const Cluster& on) {
    const KernelCount& k = l.count;
    const char* limit = k.flops / on.flops > k.bytes / on.memory ? "FLOPs" : "bytes";
    const std::string bytes = k.bytes < 1e10 ? format("%.4g", k.bytes / 1e6) : format("%.0f", k.bytes / 1e6), flops = k.flops > 0 ? format("%.4g", k.flops / 1e9) : "", intensity = k.flops > 0 ? format("%.0f", k.flops / k.bytes) : "";
    printf("| %s | %.0f | %s | %s | %s | %s | %s | %s | %.2f | %.2f |\n", k.name, l.times, k.flops_are, k.bytes_are, flops.c_str(), bytes.c_str(), intensity.c_str(), limit,
           1e3 * l.times * roofline(k, on), 1e3 * l.times * kernel_seconds(k, w, on));
}

void print_step_time(const std::string& title, Workload w, const Cluster& on) {
    std::vector<Launches> kernels;
    for (const KernelCount& k : forward_kernels(w)) kernels.push_back({(double)w.config.L, k});
    for (const KernelCount& k : backward_kernels(w)) kernels.push_back({(double)w.config.L, k});
    for (const KernelCount& k : other_kernels(w)) kernels.push_back({1, k});
    for (const KernelCount& k : update_kernels(w, on)) kernels.push_back({1, k});
    printf("\n**%s**\n\n| kernel | times | FLOPs | bytes | GFLOP | MB | FLOP/B | limit | roofline, ms | counted, ms |\n|---|---|---|---|---|---|---|---|---|---|\n", title.c_str());
    for (const Launches& l : kernels) print_kernel(l, w, on);
    const double gaps = micro_batch(w, on).gaps;
    double least = 0;
    for (const Launches& l : kernels) least += l.times * roofline(l.count, on);
    printf("| between kernels | | | | | | | | | %.2f |\n| the step | | | | | | | | %.2f | %.2f |\n", 1e3 * gaps, 1e3 * least, 1e3 * step_time(w, on).seconds);

    // each line changes one thing more than the one above it
    printf("\n| if | ms | tokens/s | MFU |\n|---|---|---|---|\n");
    double product_peak = scaling_detail::PRODUCTS, attention_peak = 0, memory = scaling_detail::MEMORY;  // 0: as scaling.h has it
    bool adds_bytes = true;
    const auto print_if = [&](const char* what) {
        double seconds = gaps;
        for (const auto& [times, k] : kernels) {
            double one = k.bytes / (memory * on.memory);
            if (k.kind == &Kernels::products) one = adds_bytes ? kernel_seconds(k, w, on) : std::max(k.flops / (product_peak * on.flops), one);
            if (k.kind == &Kernels::attention) one = attention_peak > 0 ? k.flops / (attention_peak * on.flops) : kernel_seconds(k, w, on);
            seconds += times * one;
        }
        printf("| %s | %.1f | %.0fk | %.1f %% |\n", what, 1e3 * seconds, w.N() / seconds / 1e3, 100 * w.N() * flops_per_token(w.config, w.T) / seconds / on.flops);
    };
    w.cudnn = false, print_if("our attention");
    w.cudnn = true, print_if("cuDNN's attention: as counted above");
    adds_bytes = false, print_if("and products take the longer of FLOPs and bytes");
    attention_peak = 2 * scaling_detail::ATTENTION_CUDNN, print_if("and attention takes half its time");
    memory = MEMORY_REACHED, print_if("and kernels that only move bytes reach 90 % of the memory's rate");
    product_peak = 0.85, print_if("and products reach 85 % of the data sheet");
}

// Options as --plan takes them, of one GPU; bf16 only.
void print_step_time(std::vector<std::string> options) {
    std::vector<char*> argv;
    for (std::string& option : options) argv.push_back(option.data());
    Run run = prepare(parse_options((int)argv.size(), argv.data()), Comm(), false);
    const Gpu* gpu = find_gpu(run.opt.plan);
    if (!gpu || run.opt.precision != "bf16" || run.opt.nproc != 1) die_with(EXIT_USAGE, "usage: bench_step_time --plan GPU --precision bf16 ...: one GPU of %s", gpu_names().c_str());
    const std::unique_ptr<Model<bf16>> model = plan_model<bf16>(run);
    finish_preparing(run);
    const Workload w = workload_of(run, *model);
    print_step_time(format("%s, %s: B = %d, T = %d, N = %.0f, C = %d, QKV = %d, FF = %d, L = %d, V = %d, chunks = %.0f, s = %.0f, a = %d", run.opt.model.c_str(), gpu->name, w.B, w.T, w.N(),
                           w.config.C, w.config.QKV(), w.config.FF, w.config.L, w.config.V, w.chunks, w.size, w.grad_accum > 1 ? 8 : 4), w, cluster_of<bf16>(run.opt, *gpu));
}

void print_tables_of_the_page() {
    const auto print = [](const char* model, const char* batch) { print_step_time({"bench_step_time", "--plan", "H100", "-e", model, "-b", batch, "-t", "1024", "--precision", "bf16"}); };
    print("gpt2:d12", "32"), print("gpt2:d48", "16");
}
}  // namespace
