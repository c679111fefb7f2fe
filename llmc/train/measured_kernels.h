// measured_kernels.h: what a GPU's kernels reach of its data sheet where they have been measured: the rows of dev/bench/layers.cpp, GPT-2 124M's shapes, that
// scripts/gpu_check.sh and `make bench-gpu` leave in dev/bench/results. --plan counts with these in the place of what scaling.h assumes.
#pragma once
#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>
#include "../io/files.h"
#include "../io/json.h"
#include "../model/config_names.h"
#include "../model/gpus.h"
#include "scaling.h"

struct MeasuredKernels {
    Reached reached = {};
    std::string from;  // "GPU, date, file"; empty: nobody has measured them
};

namespace measured_kernels_detail {
using Seconds = std::map<std::string, double>;  // of a layer's call, by the name of its row

// So many seconds for all that the model counts of a kind.
struct Sum { double flops = 0, bytes = 0; };
inline Sum sum_of(const KernelCounts& list, double Kernels::*kind) {
    Sum sum;
    for (const KernelCount& k : list) if (k.kind == kind) sum.flops += k.flops, sum.bytes += k.bytes;
    return sum;
}

// w: the micro-batch that was measured, of GPT-2 124M, which accumulates; its classifier in chunks. Of kernels that this model does not have
// (RMSNorm, rotary positions, SwiGLU, ReLU squared) nothing is known by these. Of a kind that is not all there NaN.
inline Reached reached_by(const Seconds& of, const Workload& w, const Cluster& on) {
    const auto at = [&](const std::string& name) { return of.contains(name) ? of.at(name) : NAN; };
    const int L = w.config.L;
    KernelCounts all = other_kernels(w);
    for (int l = 0; l < L; l++)
        for (const KernelCounts& list : {forward_kernels(w), backward_kernels(w)}) all.insert(all.end(), list.begin(), list.end());

    double products = w.chunks * (at("head forward, a chunk") + at("head backward input") + at("head backward weight"));
    for (const std::string name : {"qkv", "attproj", "fc", "fcproj"}) products += L * (at(name + " forward") + at(name + " backward input") + at(name + " backward weight"));
    const auto rate = [&](double Kernels::*kind, double seconds) { return sum_of(all, kind).bytes / seconds / on.memory; };
    // differences of times: in no epilogue less than its bytes take
    const double gelu = std::max(at("fc + gelu forward") - at("fc forward") + std::min(at("fcproj + gelu backward input") - at("fcproj backward input"), at("gelu backward")),
                                 sum_of(all, &Kernels::gelu).bytes / L / on.memory);

    Reached reached;
    const Sum p = sum_of(all, &Kernels::products);
    reached.of.products = p.flops / (products - p.bytes / on.memory) / on.flops;
    reached.of.attention = sum_of(all, &Kernels::attention).flops / (L * (at("attention forward") + at("attention backward"))) / (w.size == 4 ? on.fp32 : on.flops);
    reached.of.layernorm = rate(&Kernels::layernorm, (2 * L + 1) * (at("residual + layernorm") + at("layernorm backward")));
    reached.of.gelu = rate(&Kernels::gelu, L * gelu);
    reached.of.classifier = rate(&Kernels::classifier, w.chunks * at("classifier, a chunk"));
    reached.of.embedding = rate(&Kernels::embedding, at("embedding forward") + at("embedding backward"));
    // of the blocks' matrices alone: "85M"
    Sum update;
    for (const KernelCount& k : update_kernels(w, on)) update.bytes += k.bytes * L * block_matrices(w.config) / all_parameters(w.config);
    reached.update = update.bytes / (at("global norm, 85M") + at("AdamW, 85M")) / on.memory;
    return reached;
}
}  // namespace measured_kernels_detail

// Of this GPU in the type of w, by the newest file of the folder that has them.
inline MeasuredKernels measured_kernels(const Gpu& gpu, const Workload& w, const Cluster& on, const std::string& folder = "dev/bench/results") {
    using namespace measured_kernels_detail;
    MeasuredKernels measured;
    std::string newest;
    std::vector<std::string> names;
    if (!try_list_folder(folder, names).empty()) return measured;
    for (const std::string& name : names) {
        if (!name.ends_with(".json")) continue;
        const std::string path = folder + "/" + name;
        Json rows;
        if (!json_try_parse(rows, read_file(path)).empty() || rows.type != Json::ARRAY) continue;  // cut by a full disk, perhaps: nothing is known by it
        Seconds seconds;
        Workload there{.config = config_by_name("d12", 50257), .B = 0, .T = 0, .grad_accum = 2, .size = w.size, .master = w.size == 2};
        std::string date, machine;
        for (const Json& row : rows.as_array(path)) {
            const Json *layer = row.find("layer"), *precision = row.find("precision");
            if (!layer || !precision || precision->as_string(path) != (w.size == 4 ? "fp32" : "bf16")) continue;
            machine = row.at("machine", path).as_string(path);
            if (find_gpu_of_device(machine) != &gpu) break;
            const double s = row.at("ms", path).as_double(path) * 1e-3;
            seconds[layer->as_string(path)] = s, date = row.at("date", path).as_string(path);
            there.B = (int)row.at("batch", path).as_int(path, 1, 1 << 20), there.T = (int)row.at("seq", path).as_int(path, 1, 1 << 20);
            if (layer->as_string(path) == "head forward, a chunk")  // 2 n C Vp FLOPs
                there.chunks = there.N() / std::round(row.at("gflops", path).as_double(path) * 1e9 * s / (2.0 * there.config.C * there.config.Vp()));
        }
        if (seconds.empty() || date < newest) continue;
        const Reached reached = reached_by(seconds, there, on);
        const Kernels& k = reached.of;
        if (!std::isfinite(k.sum() + reached.update) || std::min({k.products, k.attention, k.layernorm, k.gelu, k.classifier, k.embedding, reached.update}) <= 0) continue;  // a file of some layers alone, or of wrong times
        newest = date;
        measured = {reached, machine + ", " + date + ", " + path};
    }
    // what GPT-2 does not have was not measured there; rotary positions are counted with the embedding
    const Reached assumed;
    const auto& arch = w.config.arch;
    std::string others;
    const auto by_roofline = [&](bool is_other, double Kernels::*kind, const char* name) {
        if (is_other) measured.reached.of.*kind = assumed.of.*kind, others += (others.empty() ? "; " : ", ") + std::string(name);
    };
    by_roofline(arch.norm != LAYERNORM, &Kernels::layernorm, "RMSNorm");
    by_roofline(arch.turns_heads(), &Kernels::embedding, "embedding with rotary positions");
    by_roofline(arch.mlp != GELU, &Kernels::gelu, MLP_NAMES[arch.mlp]);
    if (!measured.from.empty() && !others.empty()) measured.from += others + " by roofline";
    return measured;
}
