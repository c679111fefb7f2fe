// model_files.h: the model's weights in and out: initial values, Hugging Face folders, .bin files. Everything
// passes through model.staging in pieces, so that saving takes no memory that the plan does not show.
#pragma once
#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <vector>
#include "../base/bf16.h"
#include "../base/threads.h"
#include "../io/checkpoint_writer.h"
#include "../base/rng.h"
#include "../io/safetensors.h"
#include "bin_model.h"
#include "gather.h"
#include "model.h"

template <class F> constexpr Dtype dtype_of() { return std::is_same_v<F, float> ? Dtype::F32 : Dtype::BF16; }

// Calls body(first_row, rows) for pieces of a parameter's rows that fit the staging buffer: all of them if they are transposed in files, else
// an even number.
template <class M, class Body> void for_each_piece(const M& model, const Parameter& p, const FileTensor& t, Body body) {
    const size_t most = p.transposed ? t.rows : std::max<size_t>(model.staging_floats() / p.cols / 2 * 2, 1);
    for (size_t at = 0; at < t.rows; at += most) body(t.first_row + at, std::min(most, t.rows - at));
}
template <class M, class Body> void for_each_piece(const M& model, const Parameter& p, Body body) {
    for_each_piece(model, p, {"", 0, p.rows}, body);
}

// The parameters [offset, offset + n) = staging: fp32 into the masters, rounded to F into the weights.
template <class F> void store_staged(Model<F>& model, size_t offset, size_t n) {
    F* narrow = (F*)model.staging;
    if constexpr (!std::is_same_v<F, float>) {
        narrow = (F*)(model.staging + model.staging_floats());  // the space for the rounded copy
        parallel_blocks(n, 1 << 16, [&](size_t begin, size_t end) { for (size_t i = begin; i < end; i++) narrow[i] = F(model.staging[i]); });
    }
    if (model.master) model.for_each_owned(offset, n, [&](size_t begin, size_t count, size_t at) {
        copy_to_device(model.master + at, model.staging + (begin - offset), count * sizeof(float), model.stream);
    });
    if (model.options.zero < 3) copy_to_device(model.params + offset, narrow, n * sizeof(F), model.stream);
    else model.for_each_owned(offset, n, [&](size_t begin, size_t count, size_t at) { copy_to_device(model.param_shard + at, narrow + (begin - offset), count * sizeof(F), model.stream); });
    synchronize(model.stream);
}

// Initial values: N(0, init_std), and divided by sqrt(2L) where 2L layers add to the residual stream (Radford et al. 2019,
// section 2.3); a function of seed and tensor alone. GPT-2's 0.02 suits widths near 1000: in a narrow model it leaves the
// scores of attention and what it adds too small to learn from, and tokens that behave alike (names) too much alike to be
// told apart, so that 1 / sqrt(C) starts better. Positions stay small: they shall not drown the tokens. Where positions are rotary
// nothing is added to the tokens, which may begin with a deviation of their own, embed_std (torchtitan's Llama 3 and nanochat: 1);
// 0: init_std, as in transformers. LOG 75.
template <class F> void initialize(Model<F>& model, double init_std, uint64_t seed, double embed_std = 0) {
    for (const Parameter& p : model.parameters.all) {
        double stddev = p.init == RESIDUAL ? init_std / std::sqrt(2.0 * model.config.L) : p.init == POSITION ? 0.02 : p.init == TOKEN && embed_std > 0 ? embed_std : init_std;
        for_each_piece(model, p, [&](size_t row, size_t rows) {
            size_t first = row * p.cols, n = rows * p.cols;
            if (p.init == ONE || p.init == ZERO) std::fill_n(model.staging, n, p.init == ONE ? 1.0f : 0.0f);
            else normal_fill(model.staging, n, (float)stddev, seed, p.number, first);
            store_staged(model, p.offset + first, n);
        });
    }
}

// ---- Hugging Face's folder -------------------------------------------------------------------------------------

inline std::vector<size_t> file_shape(const Parameter& p, const FileTensor& t) {
    if (p.vector) return {p.cols};
    return p.transposed ? std::vector<size_t>{p.cols, t.rows} : std::vector<size_t>{t.rows, p.cols};
}

// Weights that are loaded are finite: one that is not makes every result NaN.
inline void check_finite(const float* values, size_t n, const std::string& path, const std::string& tensor, size_t first) {
    std::atomic<size_t> bad = n;
    parallel_blocks(n, 1 << 16, [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; i++)
            if (!std::isfinite(values[i])) {
                for (size_t least = bad; i < least && !bad.compare_exchange_weak(least, i);) {}
                return;
            }
    });
    CHECK(bad == n, "%s: %s is %g at element %zu: weights must be finite", path.c_str(), tensor.c_str(), values[bad], first + bad);
}

// Weights = the tensors of those names, which find(name) locates.
template <class F, class Find> void load_weights(Model<F>& model, Find find) {
    std::vector<float> piece;
    for (const Parameter& p : model.parameters.all)
        for (const FileTensor& part : p.files) {
            const SafetensorsModel::TensorLocation place = find(part.name);
            const SafetensorsFile& file = *place.file;
            const TensorInfo& t = *place.tensor;
            TensorInfo wanted;
            wanted.shape = file_shape(p, part);
            CHECK(t.shape == wanted.shape, "%s: %s has shape %s, the model's is %s", file.path().c_str(), json_shown(t.name).c_str(),
                  t.shape_text().c_str(), wanted.shape_text().c_str());
            for_each_piece(model, p, part, [&](size_t row, size_t rows) {
                if (!p.transposed) {
                    const size_t first = (row - part.first_row) * p.cols;
                    file.read_as_float(t, model.staging, first, rows * p.cols);
                    check_finite(model.staging, rows * p.cols, file.path(), json_shown(t.name), first);
                }
                else for (size_t col = 0, n; col < p.cols; col += n) {  // file rows are memory's columns: 1 MB of them at a time
                    n = std::min(p.cols - col, std::max<size_t>((1 << 18) / rows, 1));
                    piece.resize(n * rows);
                    file.read_as_float(t, piece.data(), col * rows, n * rows);
                    check_finite(piece.data(), n * rows, file.path(), json_shown(t.name), col * rows);
                    for (size_t r = 0; r < rows; r++)
                        for (size_t c = 0; c < n; c++) model.staging[r * p.cols + col + c] = piece[c * rows + r];
                }
                store_staged(model, p.offset + row * p.cols, rows * p.cols);
            });
        }
}

// Some files hold the head too. It is wte again, or the file is not of a model that ties them, whatever its config says.
inline void check_head(const SafetensorsModel::TensorLocation& head, const SafetensorsModel::TensorLocation& wte) {
    const TensorInfo &h = *head.tensor, &w = *wte.tensor;
    CHECK(h.shape == w.shape, "%s: %s has shape %s, %s has %s", head.file->path().c_str(), h.name.c_str(), h.shape_text().c_str(),
          w.name.c_str(), w.shape_text().c_str());
    std::vector<float> a(std::min<size_t>(h.count(), 1 << 18)), b(a.size());
    for (size_t at = 0, n; at < h.count(); at += n) {
        n = std::min(a.size(), h.count() - at);
        head.file->read_as_float(h, a.data(), at, n), wte.file->read_as_float(w, b.data(), at, n);
        CHECK(!memcmp(a.data(), b.data(), n * sizeof(float)), "%s: %s differs from %s after element %zu, must be equal: the head is tied",
              head.file->path().c_str(), h.name.c_str(), w.name.c_str(), at);
    }
}

// A tensor's name in the files of a whole model: all but the head are the trunk's, and behind its prefix, if there is one.
inline std::string name_in_file(const std::string& prefix, const std::string& name) { return name == "lm_head.weight" ? name : prefix + name; }

// Weights = those of a Hugging Face folder, in one file or in shards. Its names are ours or, if a trunk was saved together with
// its head, ours behind "transformer." or "model."; the prefix is returned, so that what is saved has the names of what was loaded.
// Beside the weights old files hold the causal mask or the rotary frequencies of each layer, which are ignored. Anything else is not this model.
template <class F> std::string load_folder(Model<F>& model, const std::string& folder) {
    const SafetensorsModel files(folder);
    const Arch& arch = model.config.arch;
    const std::string& wte = model.parameters.of(P_wte).name;
    const std::string prefix = files.find(std::string(arch.trunk) + wte).tensor ? std::string(arch.trunk) : "";
    std::vector<std::string> names = {"lm_head.weight"};
    for (const Parameter& p : model.parameters.all)
        for (const FileTensor& t : p.files) names.push_back(name_in_file(prefix, t.name));
    for (int l = 0; l < model.config.L; l++)
        for (const char* constant : {"attn.bias", "attn.masked_bias", "self_attn.rotary_emb.inv_freq"}) names.push_back(format("%s%s%d.%s", prefix.c_str(), arch.block.data(), l, constant));
    std::sort(names.begin(), names.end());
    for (const SafetensorsFile& file : files.files())
        for (const TensorInfo& t : file.tensors())
            CHECK(std::binary_search(names.begin(), names.end(), t.name), "%s: tensor %s does not belong to a %s of %d layers",
                  file.path().c_str(), json_shown(t.name).c_str(), arch.name.data(), model.config.L);
    auto find = [&](const std::string& name) {
        const SafetensorsModel::TensorLocation place = files.find(name_in_file(prefix, name));
        CHECK(place.tensor, "%s: tensor %s is missing", files.files()[0].path().c_str(), name_in_file(prefix, name).c_str());
        return place;
    };
    load_weights(model, find);
    const SafetensorsModel::TensorLocation head = files.find("lm_head.weight");
    if (arch.tied && head.tensor) check_head(head, find(wte));
    return prefix;
}

// By rank 0; all ranks call it. Sorted by name, as everybody writes it: a file that is loaded and saved again is the same, byte for byte.
// A GPT-2 with a head of its own has the trunk's prefix: without it transformers takes the file for the trunk alone, and the head for missing. Other
// families always have it.
template <class F> void save_weights(Model<F>& model, CheckpointWriter& checkpoint, std::string prefix) {
    const Arch& arch = model.config.arch;
    if (!arch.tied || !arch.is_gpt2()) prefix = arch.trunk;
    struct Named { std::string name; const Parameter* parameter; const FileTensor* tensor; };
    std::vector<Named> sorted;
    for (const Parameter& p : model.parameters.all)
        for (const FileTensor& t : p.files) sorted.push_back({name_in_file(prefix, t.name), &p, &t});
    std::sort(sorted.begin(), sorted.end(), [](const Named& a, const Named& b) { return a.name < b.name; });
    std::vector<TensorSpec> specs;
    for (const Named& n : sorted) specs.push_back({n.name, dtype_of<F>(), file_shape(*n.parameter, *n.tensor)});
    F* staging = (F*)model.staging;
    const auto each_piece = [&](TensorSink* file) {
        for (const Named& named : sorted)
            for_each_piece(model, *named.parameter, *named.tensor, [&, &p = *named.parameter](size_t row, size_t rows) {
                const F* weights = whole_weights(model, p.offset + row * p.cols, rows * p.cols);
                if (!file) return;
                F* const to = file->place(staging);
                copy_to_host(to, weights, rows * p.cols * sizeof(F), model.stream);
                synchronize(model.stream);
                if (p.transposed) file->write_transposed(to, rows, p.cols);
                else file->write(to, rows * p.cols * sizeof(F));
            });
    };
    if (model.comm.rank == 0) checkpoint.add_tensors("model.safetensors", specs, {{"format", "pt"}}, [&](TensorSink& file) { each_piece(&file); });
    else if (model.options.zero >= 3) each_piece(nullptr);
}

// ---- .bin files of the older format: tensors lie as in memory, but in their own order ----------------------------------

template <class F> void load_bin(Model<F>& model, const BinModel& file) {
    for (const BinPlace& place : bin_layout(model.parameters, file.padded_V).places)
        for_each_piece(model, *place.parameter, [&](size_t row, size_t rows) {
            const Parameter& p = *place.parameter;
            file.read_as_float(model.staging, place.offset + row * p.cols, rows * p.cols);
            check_finite(model.staging, rows * p.cols, file.path(), p.name, row * p.cols);
            store_staged(model, p.offset + row * p.cols, rows * p.cols);
        });
}

// By rank 0; all ranks call it. Written under another name, synced, renamed: the file is whole or absent. wte is padded to a multiple of 128 rows, as
// those who read the format expect.
template <class F> void save_bin(Model<F>& model, const std::string& path) {
    const Config& c = model.config;
    const uint64_t padded_V = ((uint64_t)c.V + 127) / 128 * 128;
    const BinLayout layout = bin_layout(model.parameters, padded_V);
    CHECK(layout.places.size() == model.parameters.all.size(), "--export-bin: the format has no place for some tensors of this model");
    const std::string temporary = temporary_name(path);
    std::optional<FileWriter> file;
    if (model.comm.rank == 0) remove_leftovers_of(path), file.emplace(temporary);
    const int32_t header[256] = {BIN_MAGIC, std::is_same_v<F, float> ? 3 : 5, c.max_T, c.V, c.L, c.NH, c.C, (int32_t)padded_V};
    if (file) file->write(header, sizeof header);
    F* staging = (F*)model.staging;
    for (const BinPlace& place : layout.places) {
        const Parameter& p = *place.parameter;
        for_each_piece(model, p, [&](size_t row, size_t rows) {
            const F* weights = whole_weights(model, p.offset + row * p.cols, rows * p.cols);
            if (!file) return;
            copy_to_host(staging, weights, rows * p.cols * sizeof(F), model.stream);
            synchronize(model.stream);
            file->write(staging, rows * p.cols * sizeof(F));
        });
        const std::vector<F> zeros(p.row == P_wte ? (padded_V - p.rows) * p.cols : 0, F(0.0f));
        if (file) file->write(zeros.data(), zeros.size() * sizeof(F));
    }
    if (!file) return;
    file->close();
    rename_file(temporary, path);
    fsync_dir(parent_folder(path));
}

