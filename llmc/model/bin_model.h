// bin_model.h: model files of the older format: 256 int32 of header, then the tensors without names.
//
//     header   20240326, version (3: fp32, 5: bf16), context, vocabulary, layers, heads, width, rows of wte; the rest is 0
//     tensors  in the order of BIN_ORDER, each of all layers in turn, matrices (out, in), wte padded
#pragma once
#include "../base/bf16.h"
#include "../data/shards.h"
#include "config.h"
#include "tensors.h"

constexpr int32_t BIN_MAGIC = 20240326;
constexpr size_t BIN_HEADER = 256 * sizeof(int32_t);

inline bool is_bin_model(const std::string& name) { return name.ends_with(".bin"); }

constexpr ParameterRow BIN_ORDER[] = {P_wte, P_wpe, P_ln1w, P_ln1b, P_qkvw, P_qkvb, P_attprojw, P_attprojb, P_ln2w, P_ln2b,
                                     P_fcw, P_fcb, P_fcprojw, P_fcprojb, P_lnfw, P_lnfb};

// The format knows none of these: a file would be read as another model.
inline void check_bin_export(const Config& c) {
    const char* what = !c.arch.is_gpt2() ? "it is no GPT-2" : !c.arch.tied ? "its head is not tied (tie_word_embeddings false)" : c.FF != 4 * c.C ? "its MLP is not 4 times as wide as the model (n_inner)"
                     : (float)c.eps != 1e-5f ? "its layer_norm_epsilon is not 1e-05" : nullptr;
    if (what) die_with(EXIT_USAGE, "--export-bin: a .bin file cannot hold this model: %s", what);
}

// The parameters in the file's order, each with its offset behind the header, in elements.
struct BinPlace { const Parameter* parameter; uint64_t offset; };
struct BinLayout {
    std::vector<BinPlace> places;
    uint64_t elements = 0;
};
inline BinLayout bin_layout(const ParameterList& list, uint64_t padded_V) {
    BinLayout layout;
    for (ParameterRow row : BIN_ORDER)
        for (const Parameter& p : list.all) {
            if (p.row != row) continue;
            layout.places.push_back({&p, layout.elements});
            layout.elements += (row == P_wte ? padded_V : p.rows) * p.cols;
        }
    return layout;
}

// An open file, all of whose header has been checked against itself and the file's size.
class BinModel {
    std::string path_;
    int fd = -1, width = 0;  // bytes an element

public:
    Config config;
    uint64_t padded_V = 0;

    explicit BinModel(const std::string& path) : path_(path), fd(shards_detail::open_file(path)) {
        struct stat info;
        CHECK(!fstat(fd, &info), "%s: %s", path.c_str(), strerror(errno));
        CHECK(S_ISREG(info.st_mode), "%s: not a file", path.c_str());
        CHECK((uint64_t)info.st_size >= BIN_HEADER, "%s: %lld bytes, a model file's header alone is %zu: truncated?", path.c_str(),
              (long long)info.st_size, BIN_HEADER);
        int32_t h[8];
        shards_detail::read_fully(fd, path, 0, sizeof h, h);
        CHECK(h[0] == BIN_MAGIC, "%s: starts with %d, a model file with %d", path.c_str(), h[0], BIN_MAGIC);
        CHECK(h[1] == 3 || h[1] == 5, "%s: version %d, must be 3 (fp32) or 5 (bf16)", path.c_str(), h[1]);
        width = h[1] == 3 ? 4 : 2;
        config = {.max_T = h[2], .V = h[3], .L = h[4], .NH = h[5], .C = h[6]};
        check_config(config, path);
        CHECK(h[7] >= h[3] && h[7] <= 1 << 25, "%s: %d rows of wte, must be from the vocabulary, %d, to %d", path.c_str(), h[7], h[3], 1 << 25);
        padded_V = (uint64_t)h[7];
        const unsigned long long promised = BIN_HEADER + bin_layout(ParameterList(config), padded_V).elements * (uint64_t)width, holds = (unsigned long long)info.st_size;
        CHECK(holds == promised, "%s: holds %llu bytes, its header promises %llu: %s", path.c_str(), holds, promised,
              holds < promised ? "truncated?" : "the header is wrong or the file was appended to");
    }
    BinModel(const BinModel&) = delete;
    ~BinModel() { close(fd); }

    const std::string& path() const { return path_; }

    // dst = elements [first, first + n) of the file
    void read_as_float(float* dst, uint64_t first, size_t n) const {
        shards_detail::read_fully(fd, path_, BIN_HEADER + first * (uint64_t)width, n * (size_t)width, dst);
        if (width == 4) return;
        const char* narrow = (const char*)dst;  // back to front: a wide element never lies before the narrow one it came from
        for (size_t i = n; i-- > 0;) {
            uint16_t half;
            memcpy(&half, narrow + 2 * i, 2);
            dst[i] = bf16::from_bits(half);
        }
    }
};
