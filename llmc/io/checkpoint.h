// checkpoint.h: the life of the folders OUT/step_00005000/: verified, found again, pruned; checkpoint_writer.h writes them. Three words: a checkpoint is
// *whole* when its MANIFEST verifies, *good* when its step and those after it passed the step guard (train/confirm.h), *best* when its validation loss is
// the lowest.
//
// A folder has its final name only when every byte of it is on the disk. While it is written, replaced or deleted, it has
// one of these names, and a process that dies leaves just that:
//     .step_00005000.new   being written; removed by the next save, or when the run is resumed
//     .step_00005000.old   the one that is being replaced: counts as step_00005000 as long as that is not there
//     .step_00005000.del   being deleted; removed by the same
// OUT/DONE_00005000, empty, comes after its checkpoint and goes before it: scripts that start a run until it is done look for it.
// OUT/GOOD_00005000 says that it is good (empty: of a run that went on, else that it was the last one), OUT/BAD_00005000 why it is not; without either
// nothing is known yet.
// MANIFEST lists name, length and XXH64 of each file; its last line does the same for the lines above it.
#pragma once
#include <fcntl.h>
#include <sys/stat.h>
#include <algorithm>
#include <climits>
#include <functional>
#include <set>
#include <string>
#include <vector>
#include "files.h"
#include "json.h"

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
inline bool exists(const std::string& path) { return is_there(path); }

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

inline std::string read_manifest(const std::string& path, std::vector<ManifestLine>& lines, bool* of_the_machine = nullptr) {
    std::string text, error = try_read_file(path + "/MANIFEST", text, of_the_machine);
    return error.empty() ? parse_manifest(text, lines) : error.substr(path.size() + 1);  // "MANIFEST: No such file or directory"
}

// Returns "" or the first file that is not as the MANIFEST has it, and whether that is an error of the machine, which says nothing of the file. Without
// `contents` only the lengths are compared.
inline std::string check_folder(const std::string& path, bool contents, bool* of_the_machine = nullptr) {
    std::vector<ManifestLine> lines;
    std::string error = read_manifest(path, lines, of_the_machine);
    if (!error.empty()) return error;
    for (const auto& [name, expected] : lines) {
        struct stat s;
        std::string file = path + "/" + name;
        if (stat(file.c_str(), &s) != 0) {
            if (of_the_machine) *of_the_machine = is_of_the_machine(errno);
            return errno_text(name);
        }
        if (!S_ISREG(s.st_mode)) return name + ": not a file";
        if ((uint64_t)s.st_size != expected.bytes)
            return format("%s: holds %llu bytes, expected %llu", name.c_str(), (unsigned long long)s.st_size,
                          (unsigned long long)expected.bytes);
        if (!contents) continue;
        FileSum found;
        error = sum_file(file, found, of_the_machine);
        if (!error.empty()) return error.substr(path.size() + 1);
        if (found.checksum != expected.checksum)
            return format("%s: has the checksum %016llx, expected %016llx: damaged", name.c_str(),
                          (unsigned long long)found.checksum, (unsigned long long)expected.checksum);
    }
    return "";
}

// A checkpoint is deleted such that a half-deleted one never has a checkpoint's name, not even after a power loss: it loses its name, and its files go later.
inline std::string try_take_name(const std::string& out, const std::string& path, int step) {
    const std::string doomed = hidden(out, step, ".del");
    std::string error = try_remove_tree(doomed);
    if (error.empty()) error = try_rename_file(path, doomed);
    if (error.empty()) fsync_dir(out);
    return error;
}
inline void remove_checkpoint(const std::string& out, const std::string& path, int step) {
    or_die(try_take_name(out, path, step));
    remove_tree(hidden(out, step, ".del"));
}
}  // namespace checkpoint_detail

// Every file of the folder against its MANIFEST. "" if all are as they were written, otherwise which one is not, and how.
// Files that are not in the MANIFEST are nobody's concern. A disk that does not answer is no damage: nothing is passed over for it.
inline std::string verify_checkpoint(const std::string& path) {
    bool of_the_machine = false;
    const std::string error = checkpoint_detail::check_folder(path, true, &of_the_machine);
    CHECK(!of_the_machine, "%s/%s: cannot be verified", path.c_str(), error.c_str());
    return error;
}
// Before a model is loaded from a folder, whoever loads it: where a MANIFEST lies all is as it was written. Folders of other programs have none.
inline void verify_model_folder(const std::string& path) {
    struct stat s;
    if (stat(path.c_str(), &s) != 0 || !S_ISDIR(s.st_mode) || (lstat((path + "/MANIFEST").c_str(), &s) != 0 && !is_of_the_machine(errno))) return;
    const std::string error = verify_checkpoint(path);
    CHECK(error.empty(), "%s/%s", path.c_str(), error.c_str());
    std::vector<checkpoint_detail::ManifestLine> lines;
    checkpoint_detail::read_manifest(path, lines);
    for (const char* needed : {"config.json", "model.safetensors"})
        CHECK(std::any_of(lines.begin(), lines.end(), [&](const auto& line) { return line.name == needed; }), "%s/MANIFEST: does not list %s", path.c_str(), needed);
}

// Oldest first, verified or not.
inline std::string try_list_checkpoints(const std::string& out, std::vector<Checkpoint>& list) {
    using namespace checkpoint_detail;
    std::vector<std::string> names;
    std::vector<size_t> steps;
    std::string error = try_list_folder(out, names);
    for (const std::string& name : names)
        if (int step = std::max(step_of(name), step_of(name, ".old")); step >= 0) steps.push_back((size_t)step);
    std::sort(steps.begin(), steps.end());
    steps.erase(std::unique(steps.begin(), steps.end()), steps.end());
    list.clear();
    for (size_t i = 0; i < steps.size() && error.empty(); i++) {
        const std::string path = out + "/" + step_name((int)steps[i]);
        bool there;
        error = try_is_there(path, there);
        list.push_back({(int)steps[i], there ? path : hidden(out, (int)steps[i], ".old")});
    }
    return error;
}
inline std::vector<Checkpoint> list_checkpoints(const std::string& out) {
    std::vector<Checkpoint> list;
    return or_die(try_list_checkpoints(out, list)), list;
}

// ---- what is said of a checkpoint, by empty files beside it ------------------------------------------------------------

inline std::string done_path(const std::string& out, int step) { return out + format("/DONE_%08d", step); }
inline std::string good_path(const std::string& out, int step) { return out + format("/GOOD_%08d", step); }
inline std::string bad_path(const std::string& out, int step) { return out + format("/BAD_%08d", step); }

namespace checkpoint_detail {
inline void make_empty_file(const std::string& path) {
    const int fd = open_file(path, O_WRONLY | O_CREAT);
    CHECK(fd >= 0, "%s", errno_text(path).c_str());
    CHECK((sync_file(fd) || errno == EINVAL) && close_file(fd), "%s", errno_text(path).c_str());
    fsync_dir(parent_folder(path));
}
// What a name says of which step; -1 if it is none of these files.
inline int step_of_mark(const std::string& name) {
    int step = -1;
    for (const char* mark : {"DONE_%d", "GOOD_%d", "BAD_%d"})
        if (sscanf(name.c_str(), mark, &step) == 1 && step >= 0 && (name == format("DONE_%08d", step) || name == format("GOOD_%08d", step) || name == format("BAD_%08d", step))) return step;
    return -1;
}
}  // namespace checkpoint_detail

namespace checkpoint_detail {
// What was said of a checkpoint that goes, or is replaced; but `bad`, what was said against it, as long as it is there.
inline std::string try_forget_marks(const std::string& out, int step, bool bad) {
    std::string error;
    bool any = false;
    for (const std::string& path : {good_path(out, step), done_path(out, step), bad_path(out, step)}) {
        bool was_there = false;
        if (error.empty() && (bad || path != bad_path(out, step))) error = try_remove_file(path, was_there);
        any |= was_there;
    }
    if (any) fsync_dir(out);
    return error;
}
}  // namespace checkpoint_detail

inline void mark_done(const std::string& out, int step) { checkpoint_detail::make_empty_file(done_path(out, step)); }
inline void mark_good(const std::string& out, int step) { write_file_atomically(good_path(out, step), ""); }
inline void mark_last(const std::string& out, int step) { write_file_atomically(good_path(out, step), "the last one of a run\n"); }
inline void mark_bad(const std::string& out, int step, const std::string& why) { write_file_atomically(bad_path(out, step), why + "\n"); }
inline bool is_good(const std::string& out, int step) { return checkpoint_detail::exists(good_path(out, step)) && !checkpoint_detail::exists(bad_path(out, step)); }
// And not only as the last one of a run.
inline bool is_confirmed(const std::string& out, int step) {
    struct stat s;
    return is_good(out, step) && stat(good_path(out, step).c_str(), &s) == 0 && s.st_size == 0;
}
inline std::string why_bad(const std::string& out, int step) {  // "": nothing is known against it
    std::string text;
    if (!checkpoint_detail::exists(bad_path(out, step))) return "";
    (void)try_read_file(bad_path(out, step), text);
    return text.empty() ? "not good" : text.substr(0, text.find('\n'));
}

// The newest good one that verifies. Where none is good yet the newest of those against which nothing is known: its run was killed too soon. `log` gets one
// line for each that was passed over. One rank looks, and tells the others.
inline Checkpoint find_newest_checkpoint(const std::string& out, const std::function<void(const std::string&)>& log =
                                         [](const std::string& line) { fprintf(stderr, "%s\n", on_one_line(line).c_str()); }) {
    const std::vector<Checkpoint> list = list_checkpoints(out);
    std::vector<std::string> why(list.size());  // it was passed over
    Checkpoint found;
    for (const bool good : {true, false})
        for (size_t i = list.size(); i-- > 0 && found.step < 0;) {
            if (is_good(out, list[i].step) != good) continue;
            why[i] = why_bad(out, list[i].step);
            if (why[i].empty()) why[i] = verify_checkpoint(list[i].path);
            if (why[i].empty()) found = list[i];
        }
    for (size_t i = list.size(); i-- > 0 && list[i].step > found.step;)
        log("skipped " + list[i].path + ": " + (!why_bad(out, list[i].step).empty() ? why_bad(out, list[i].step) : why[i].empty() ? "not known to be good: its run ended too soon after it" : why[i]));
    return found;
}

// `newest` verified, none after it did; -1: none at all. Says DONE of it, where a crash came between, and of nothing that is not there. What is said of
// checkpoints that are gone goes too.
inline void repair_done(const std::string& out, int newest) {
    const std::vector<Checkpoint> list = list_checkpoints(out);
    for (const std::string& name : list_folder(out)) {
        const int step = checkpoint_detail::step_of_mark(name);
        if (step < 0) continue;
        const bool there = std::any_of(list.begin(), list.end(), [&](const Checkpoint& c) { return c.step == step; });
        if (!there || (step > newest && name[0] == 'D')) remove_file(out + "/" + name);
    }
    if (newest >= 0) mark_done(out, newest);
}

inline std::string checkpoint_path(const std::string& out, int step) { return out + "/" + checkpoint_detail::step_name(step); }

inline bool has_checkpoint(const std::string& out, int step) { return step >= 0 && checkpoint_detail::exists(checkpoint_path(out, step)); }

// What cannot be looked at or removed when checkpoints are pruned takes room, no more: a run goes on, and the next pruning tries again. What it leaves is what
// a kill leaves. But a sync that fails ends the run: nothing says then what is on the disk.
inline void say_not_pruned(const std::string& error) {
    if (!error.empty()) fprintf(stderr, "not pruned: %s: tried again later\n", on_one_line(error).c_str());
}

// The files of a checkpoint that is dropped are removed now, or by remove_dropped: gigabytes take long, and nothing counts on it.
enum class Files { REMOVED, LEFT };
inline void remove_dropped(const std::string& out) {
    std::vector<std::string> names;
    say_not_pruned(try_list_folder(out, names));
    for (const std::string& name : names) if (checkpoint_detail::step_of(name, ".del") >= 0) say_not_pruned(try_remove_tree(out + "/" + name));
}
// The checkpoint of a step goes, if there is one.
inline std::string try_drop_checkpoint(const std::string& out, int step, Files files) {
    using namespace checkpoint_detail;
    std::vector<Checkpoint> list;
    std::string error = try_forget_marks(out, step, false);  // first: DONE without a checkpoint would be a lie
    if (error.empty()) error = try_list_checkpoints(out, list);
    for (const Checkpoint& c : list) if (c.step == step && error.empty()) error = try_take_name(out, c.path, step);
    if (error.empty() && files == Files::REMOVED) error = try_remove_tree(hidden(out, step, ".del"));
    return error.empty() ? try_forget_marks(out, step, true) : error;
}
inline void drop_checkpoint(const std::string& out, int step, Files files = Files::REMOVED) { say_not_pruned(try_drop_checkpoint(out, step, files)); }

// After the checkpoint of step `now` was found good: keeps the newest `keep` (0: all), `now` among them, every step divisible by `major` (0: none), and `spared`.
// Steps after `now` are not known to be good yet, or of an earlier run that went further: they neither count nor go. Nor does a folder count that cannot be
// loaded or is bad.
inline void prune_checkpoints(const std::string& out, int keep, int major, int now = INT_MAX, const std::vector<int>& spared = {}, Files files = Files::REMOVED) {
    if (keep <= 0) return;
    std::vector<Checkpoint> list;
    if (const std::string error = try_list_checkpoints(out, list); !error.empty()) return say_not_pruned(error);
    for (int kept = 0; !list.empty(); list.pop_back()) {
        const Checkpoint& c = list.back();
        if (c.step > now) continue;
        if (kept < keep || c.step == now) {
            bool of_the_machine = false, bad = false;
            const std::string damage = checkpoint_detail::check_folder(c.path, false, &of_the_machine), unknown = of_the_machine ? c.path + "/" + damage : try_is_there(bad_path(out, c.step), bad);
            if (!unknown.empty()) return say_not_pruned(unknown);  // whether it counts: then none goes
            kept += damage.empty() && !bad;
            continue;
        }
        if (std::find(spared.begin(), spared.end(), c.step) != spared.end() || (major > 0 && c.step % major == 0)) continue;
        drop_checkpoint(out, c.step, files);
    }
}

// What earlier processes left when they died: half-written and half-deleted checkpoints go. None of them is alive: the caller holds the lock.
inline void clean_up_checkpoints(const std::string& out) {
    using namespace checkpoint_detail;
    remove_dropped(out);
    for (const std::string& name : list_folder(out)) {
        if (step_of(name, ".new") >= 0) remove_tree(out + "/" + name);
        int s = step_of(name, ".old");
        if (s < 0) continue;
        std::string path = out + "/" + step_name(s);  // died between the two renames of commit: put it back
        if (exists(path)) remove_checkpoint(out, out + "/" + name, s);
        else rename_file(out + "/" + name, path);
    }
    fsync_dir(out);
}
