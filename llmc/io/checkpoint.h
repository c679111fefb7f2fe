// checkpoint.h: the life of the folders OUT/step_00005000/: written whole, verified, found again, pruned; and the pieces of
// optimizer state in them, which any number of ranks can load.
//
// A folder has its final name only when every byte of it is on the disk. While it is written, replaced or deleted, it has
// one of these names, and a process that dies leaves just that:
//     .step_00005000.new   being written; removed by the next save
//     .step_00005000.old   the one that is being replaced: counts as step_00005000 as long as that is not there
//     .step_00005000.del   being deleted; removed by the next save
// OUT/DONE_00005000, empty, comes after its checkpoint and goes before it: scripts that start a run until it is done look for it.
// MANIFEST lists name, length and XXH64 of each file; its last line does the same for the lines above it.
#pragma once
#include <functional>
#include <set>
#include "files.h"
#include "run_lock.h"
#include "safetensors.h"

struct Checkpoint { int step = -1; std::string path; };  // step -1: none

namespace checkpoint_detail {
inline std::string step_name(int step) { return format("step_%08d", step); }
inline int step_of(const std::string& name) {  // -1 if it is not exactly a step's name
    int step = -1;
    if (sscanf(name.c_str(), "step_%d", &step) != 1 || step < 0 || step_name(step) != name) return -1;
    return step;
}
// ".step_00005000.old" -> 5000 for suffix ".old"; -1 for every other name, so that nothing else is ever touched
inline int step_of(const std::string& name, const std::string& suffix) {
    size_t n = name.size(), m = suffix.size();
    return n > m + 1 && name[0] == '.' && name.substr(n - m) == suffix ? step_of(name.substr(1, n - m - 1)) : -1;
}
inline std::string hidden(const std::string& out, int step, const char* suffix) {
    return out + "/." + step_name(step) + suffix;
}
inline bool exists(const std::string& path) { struct stat s; return lstat(path.c_str(), &s) == 0; }

struct ManifestLine { std::string name; FileSum sum; };

inline std::string manifest_line(const std::string& name, FileSum sum) {
    return format("%s %llu %016llx\n", name.c_str(), (unsigned long long)sum.bytes, (unsigned long long)sum.checksum);
}
inline std::string manifest_text(const std::vector<ManifestLine>& lines) {
    std::string text;
    for (const ManifestLine& line : lines) text += manifest_line(line.name, line.sum);
    return text + manifest_line("MANIFEST", {text.size(), xxh64(text.data(), text.size())});
}

// Returns "" or the first thing that is wrong.
inline std::string parse_manifest(const std::string& text, std::vector<ManifestLine>& lines) {
    lines.clear();
    std::set<std::string> names;
    for (size_t at = 0, number = 1; at < text.size(); number++) {
        size_t end = text.find('\n', at);
        std::string line = text.substr(at, end == text.npos ? end : end + 1 - at);
        char name[256];
        unsigned long long bytes, checksum;
        bool good = sscanf(line.c_str(), "%255s %llu %16llx", name, &bytes, &checksum) == 3 && is_plain_name(name) &&
                    line == manifest_line(name, {bytes, checksum});  // exactly as we write it
        if (!good) return format("MANIFEST: line %zu is %s, expected name, length, checksum", number,
                                 json_shown(line.substr(0, line.find('\n'))).c_str());
        if (!names.insert(name).second) return format("MANIFEST: %s is listed twice", name);
        lines.push_back({name, {bytes, checksum}});
        at += line.size();
    }
    if (lines.empty() || lines.back().name != "MANIFEST") return "MANIFEST: the last line is missing: truncated?";
    lines.pop_back();
    if (manifest_text(lines) != text) return "MANIFEST: the lines do not have the checksum in the last one: damaged";
    return "";
}

// Returns "" or the first file that is not as the MANIFEST has it. Without `contents` only the lengths are compared.
inline std::string check_folder(const std::string& path, bool contents) {
    std::string text, error = try_read_file(path + "/MANIFEST", text);
    if (!error.empty()) return error.substr(path.size() + 1);  // "MANIFEST: No such file or directory"
    std::vector<ManifestLine> lines;
    error = parse_manifest(text, lines);
    if (!error.empty()) return error;
    for (const auto& [name, expected] : lines) {
        struct stat s;
        std::string file = path + "/" + name;
        if (stat(file.c_str(), &s) != 0) return errno_text(name);
        if (!S_ISREG(s.st_mode)) return name + ": not a file";
        if ((uint64_t)s.st_size != expected.bytes)
            return format("%s: holds %llu bytes, expected %llu", name.c_str(), (unsigned long long)s.st_size,
                          (unsigned long long)expected.bytes);
        if (!contents) continue;
        FileSum found;
        error = sum_file(file, found);
        if (!error.empty()) return error.substr(path.size() + 1);
        if (found.checksum != expected.checksum)
            return format("%s: has the checksum %016llx, expected %016llx: damaged", name.c_str(),
                          (unsigned long long)found.checksum, (unsigned long long)expected.checksum);
    }
    return "";
}

// Deletes a checkpoint such that a half-deleted one never has a checkpoint's name, not even after a power loss.
inline void remove_checkpoint(const std::string& out, const std::string& path, int step) {
    std::string doomed = hidden(out, step, ".del");
    remove_tree(doomed);
    rename_file(path, doomed);
    fsync_dir(out);
    remove_tree(doomed);
}
}  // namespace checkpoint_detail

// Every file of the folder against its MANIFEST. "" if all are as they were written, otherwise which one is not, and how.
// Files that are not in the MANIFEST are nobody's concern.
inline std::string verify_checkpoint(const std::string& path) { return checkpoint_detail::check_folder(path, true); }

// Oldest first, verified or not.
inline std::vector<Checkpoint> list_checkpoints(const std::string& out) {
    using namespace checkpoint_detail;
    std::vector<size_t> steps;
    for (const std::string& name : list_folder(out))
        if (int step = std::max(step_of(name), step_of(name, ".old")); step >= 0) steps.push_back((size_t)step);
    std::sort(steps.begin(), steps.end());
    steps.erase(std::unique(steps.begin(), steps.end()), steps.end());
    std::vector<Checkpoint> list;
    for (size_t step : steps) {
        std::string path = out + "/" + step_name((int)step);
        list.push_back({(int)step, exists(path) ? path : hidden(out, (int)step, ".old")});
    }
    return list;
}

// The newest one that verifies; `log` gets one line for each that was passed over. One rank looks, and tells the others.
inline Checkpoint find_newest_checkpoint(const std::string& out, const std::function<void(const std::string&)>& log =
                                         [](const std::string& line) { fprintf(stderr, "%s\n", line.c_str()); }) {
    std::vector<Checkpoint> list = list_checkpoints(out);
    for (; !list.empty(); list.pop_back()) {
        std::string error = verify_checkpoint(list.back().path);
        if (error.empty()) return list.back();
        log("skipped " + list.back().path + ": " + error);
    }
    return {};
}

inline std::string done_path(const std::string& out, int step) { return out + format("/DONE_%08d", step); }
inline void mark_done(const std::string& out, int step) {
    int fd = open(done_path(out, step).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    CHECK(fd >= 0, "%s", errno_text(done_path(out, step)).c_str());
    close(fd);
    fsync_dir(out);
}
// `newest` verified, none after it did; -1: none at all. Says DONE of it, where a crash came between, and of nothing that is not there.
inline void repair_done(const std::string& out, int newest) {
    const std::vector<Checkpoint> list = list_checkpoints(out);
    for (const std::string& name : list_folder(out)) {
        int step = -1;
        if (sscanf(name.c_str(), "DONE_%d", &step) != 1 || out + "/" + name != done_path(out, step)) continue;
        const bool there = std::any_of(list.begin(), list.end(), [&](const Checkpoint& c) { return c.step == step; });
        if (!there || step > newest) unlink(done_path(out, step).c_str());
    }
    if (newest >= 0) mark_done(out, newest);
}

inline std::string checkpoint_path(const std::string& out, int step) { return out + "/" + checkpoint_detail::step_name(step); }

inline bool has_checkpoint(const std::string& out, int step) { return step >= 0 && checkpoint_detail::exists(checkpoint_path(out, step)); }

// The checkpoint of a step goes, if there is one.
inline void drop_checkpoint(const std::string& out, int step) {
    using namespace checkpoint_detail;
    if (unlink(done_path(out, step).c_str()) == 0) fsync_dir(out);  // first: DONE without a checkpoint would be a lie
    for (const Checkpoint& c : list_checkpoints(out)) if (c.step == step) remove_checkpoint(out, c.path, step);
}

// After step `now` was saved: keeps the newest `keep` (0: all), every step divisible by `major` (0: none), and `best`. Steps after
// `now` are of an earlier run that went further: they neither count nor go. Nor does a folder count that cannot be loaded.
inline void prune_checkpoints(const std::string& out, int keep, int major, int now = INT_MAX, int best = -1) {
    if (keep <= 0) return;
    std::vector<Checkpoint> list = list_checkpoints(out);
    for (int kept = 0; !list.empty(); list.pop_back()) {
        const Checkpoint& c = list.back();
        if (c.step > now) continue;
        if (kept < keep) { kept += checkpoint_detail::check_folder(c.path, false).empty(); continue; }
        if (c.step == best || (major > 0 && c.step % major == 0)) continue;
        drop_checkpoint(out, c.step);
    }
}

// ---- saving --------------------------------------------------------------------------------------------------------

// Several ranks write one checkpoint: each makes its own CheckpointWriter, at the same time, and adds its own files.
struct SaveRanks { int rank = 0, world = 1; std::function<void()> barrier = [] {}; };

//     CheckpointWriter save(opt.out, step);
//     save.add_text("config.json", ...);
//     save.add_tensors("model.safetensors", specs, {{"format", "pt"}}, [&](SafetensorsWriter& file) { file.write(...); });
//     save.commit();
class CheckpointWriter {
    std::string out, temporary;
    int step;
    RunLock lock;  // of one save, where the run holds none
    SaveRanks ranks;
    std::vector<checkpoint_detail::ManifestLine> lines;

    // What earlier processes left when they died. None is alive: we hold the lock.
    void clean_up() {
        using namespace checkpoint_detail;
        for (const std::string& name : list_folder(out)) {
            if (step_of(name, ".new") >= 0 || step_of(name, ".del") >= 0) remove_tree(out + "/" + name);
            int s = step_of(name, ".old");
            if (s < 0) continue;
            std::string path = out + "/" + step_name(s);  // died between the two renames of commit: put it back
            if (exists(path)) remove_checkpoint(out, out + "/" + name, s);
            else rename_file(out + "/" + name, path);
        }
        fsync_dir(out);
    }
    // What goes if a write fails: the folder, if it is ours alone; of several ranks the others write there, and the next save cleans up.
    std::string scrap() const { return ranks.world == 1 ? temporary : ""; }
    std::string part_path(int rank) const { return temporary + format("/.manifest-%05d", rank); }
    void check_name(const std::string& name) const {
        bool is_new = name != "MANIFEST" && std::none_of(lines.begin(), lines.end(), [&](auto& l) { return l.name == name; });
        CHECK(is_plain_name(name) && is_new, "%s: cannot add a file named %s", temporary.c_str(), json_shown(name).c_str());
    }

public:
    CheckpointWriter(const std::string& out_, int step_, SaveRanks ranks_ = {})
        : out(out_), temporary(checkpoint_detail::hidden(out_, step_, ".new")), step(step_), ranks(std::move(ranks_)) {
        if (ranks.rank == 0) {
            make_folders(out);
            if (!RunLock::held_here(out))
                if (std::string holder = lock.take(out); !holder.empty()) die("%s", holder.c_str());
            clean_up();
            CHECK(mkdir(temporary.c_str(), 0777) == 0, "%s", errno_text(temporary).c_str());
        }
        ranks.barrier();
    }
    CheckpointWriter(const CheckpointWriter&) = delete;

    void add_text(const std::string& name, std::string_view text) {
        check_name(name);
        FileWriter file(temporary + "/" + name, scrap());
        file.write(text.data(), text.size());
        lines.push_back({name, file.close()});
    }

    // fill(writer) writes the data of all `specs`, in order.
    template <class Fill> void add_tensors(const std::string& name, const std::vector<TensorSpec>& specs,
                                           const SafetensorsMetadata& metadata, Fill fill) {
        check_name(name);
        SafetensorsWriter file(temporary + "/" + name, specs, metadata, scrap());
        fill(file);
        lines.push_back({name, file.close()});
    }

    // When this returns, on any rank, the checkpoint is there and survives a power loss. The order makes it so:
    // 1. every file is synced (FileWriter)  2. MANIFEST is synced  3. the folder, which holds their names, is synced
    // 4. only then does it get its name     5. OUT, which holds that name, is synced   6. only then is the old one deleted
    // 7. and DONE is written
    void commit() {
        using namespace checkpoint_detail;
        if (ranks.rank != 0) {  // the others leave their lines where rank 0 finds them
            std::string text = manifest_text(lines);
            FileWriter part(part_path(ranks.rank), scrap());
            part.write(text.data(), text.size());
            part.close();
        }
        ranks.barrier();
        if (ranks.rank == 0) {
            for (int rank = 1; rank < ranks.world; rank++) {
                std::vector<ManifestLine> part;
                std::string error = parse_manifest(read_file(part_path(rank)), part);
                CHECK(error.empty(), "%s: %s", part_path(rank).c_str(), error.c_str());
                for (ManifestLine& line : part) check_name(line.name), lines.push_back(line);
                CHECK(unlink(part_path(rank).c_str()) == 0, "%s", errno_text(part_path(rank)).c_str());
            }
            std::sort(lines.begin(), lines.end(), [](const ManifestLine& a, const ManifestLine& b) { return a.name < b.name; });  // whoever wrote them
            std::string text = manifest_text(lines);
            FileWriter manifest(temporary + "/MANIFEST", temporary);
            manifest.write(text.data(), text.size());
            manifest.close();
            fsync_dir(temporary);
            std::string final_path = checkpoint_path(out, step), old = hidden(out, step, ".old");
            bool replace = exists(final_path);  // the step was reached before, by a run that was resumed before it
            if (replace) rename_file(final_path, old), fsync_dir(out);
            rename_file(temporary, final_path);
            fsync_dir(out);
            if (replace) remove_checkpoint(out, old, step);
            mark_done(out, step);
            lock.release();
        }
        ranks.barrier();
    }
};

// ---- optimizer state, by name and offset ---------------------------------------------------------------------------

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
        for (const std::string& name : list_folder(dir))
            if (name.substr(0, 6) == "state-" && name.size() > 12 && name.substr(name.size() - 12) == ".safetensors")
                files.emplace_back(dir + "/" + name);
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
