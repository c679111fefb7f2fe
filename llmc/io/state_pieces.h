// state_pieces.h: optimizer state in a checkpoint, by name and offset: pieces that any number of ranks can load, whatever the cut was.
#pragma once
#include <algorithm>
#include <string>
#include <vector>
#include "checkpoint.h"
#include "safetensors.h"

// state-0000n.safetensors hold, in whatever cut, elements [offset, offset + count) of the `kind` (exp_avg, exp_avg_sq, master) of a parameter, flat,
// in the parameter's order in memory, as the tensor "exp_avg/h.0.attn.c_attn.weight@12345" with shape [count].
struct StatePiece { std::string kind, param; size_t offset = 0, count = 0; };

inline std::string state_file(int number) { return format("state-%05d.safetensors", number); }
inline TensorSpec state_spec(const StatePiece& p, Dtype dtype = Dtype::F32) {
    return {format("%s/%s@%zu", p.kind.c_str(), p.param.c_str(), p.offset), dtype, {p.count}};
}

// All the pieces of a checkpoint, for reading any range whatever the cut was when they were written.
class StateReader {
    struct Stored {
        std::string_view name;  // "exp_avg/h.0.attn.c_attn.weight"
        size_t offset;
        const SafetensorsFile* file;
        const TensorInfo* tensor;
        size_t end() const { return offset + tensor->count(); }
        bool operator<(const Stored& o) const { return name != o.name ? name < o.name : offset < o.offset; }
    };
    std::string dir;
    std::vector<SafetensorsFile> files;
    std::vector<Stored> pieces;  // by name, then offset

    // Those of the MANIFEST: what else lies there is nobody's concern.
    static std::vector<std::string> files_of(const std::string& dir) {
        if (!checkpoint_detail::exists(dir + "/MANIFEST")) return list_folder(dir);
        std::vector<checkpoint_detail::ManifestLine> lines;
        const std::string error = checkpoint_detail::read_manifest(dir, lines);
        CHECK(error.empty(), "%s/%s", dir.c_str(), error.c_str());
        std::vector<std::string> names;
        for (const auto& line : lines) names.push_back(line.name);
        return names;
    }
    static bool parse(const TensorInfo& t, Stored& s) {
        size_t slash = t.name.find('/'), at = t.name.rfind('@');
        if (at == t.name.npos || slash == 0 || slash > at || slash + 1 == at || t.shape.size() != 1) return false;
        s.name = std::string_view(t.name).substr(0, at);
        s.offset = strtoull(&t.name[at + 1], nullptr, 10);
        return s.offset <= SIZE_MAX - t.count() && t.name == std::string(s.name) + format("@%zu", s.offset);  // as we write it
    }
    std::vector<Stored>::const_iterator first_of(std::string_view name) const {
        return std::lower_bound(pieces.begin(), pieces.end(), Stored{name, 0, nullptr, nullptr});
    }

public:
    explicit StateReader(const std::string& dir_) : dir(dir_) {
        for (const std::string& name : files_of(dir))
            if (name.starts_with("state-") && name.ends_with(".safetensors")) files.emplace_back(dir + "/" + name);
        for (const SafetensorsFile& file : files)
            for (const TensorInfo& t : file.tensors()) {
                Stored s{{}, 0, &file, &t};
                CHECK(parse(t, s), "%s: %s %s: expected kind/parameter@offset, shape [count]", file.path().c_str(),
                      json_shown(t.name).c_str(), t.shape_text().c_str());
                if (t.count() > 0) pieces.push_back(s);
            }
        std::sort(pieces.begin(), pieces.end());
        for (size_t i = 1; i < pieces.size(); i++) {
            const Stored &a = pieces[i - 1], &b = pieces[i];
            CHECK(a.name != b.name || a.end() <= b.offset, "%s: %s overlaps %s of %s", b.file->path().c_str(),
                  json_shown(b.tensor->name).c_str(), json_shown(a.tensor->name).c_str(), a.file->path().c_str());
        }
    }
    StateReader(const StateReader&) = delete;  // `pieces` points into `files`

    bool has(const std::string& kind, const std::string& param) const {
        std::string name = kind + "/" + param;
        auto s = first_of(name);
        return s != pieces.end() && s->name == name;
    }

    // dst[0 .. count) = elements [offset, offset + count)
    void read(const std::string& kind, const std::string& param, size_t offset, size_t count, float* dst) const {
        std::string name = kind + "/" + param;
        size_t at = offset, end = offset + count;
        for (auto s = first_of(name); s != pieces.end() && s->name == name && at < end; s++) {
            if (s->end() <= at) continue;
            if (s->offset > at) break;
            size_t n = std::min(s->end(), end) - at;
            s->file->read_as_float(*s->tensor, dst + (at - offset), at - s->offset, n);
            at += n;
        }
        CHECK(at == end, "%s: %s, elements [%zu, %zu): [%zu, ...) is in no state-*.safetensors", dir.c_str(), name.c_str(),
              offset, end, at);
    }
};
