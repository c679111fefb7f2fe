// disk.h: what a run wrote, synced and renamed, recorded operation by operation, and the states in which a disk may be found when the power goes after
// any of them. Two models say which states are legal:
//
// POSIX AT ITS WEAKEST. What fsync(file) has covered is there: bytes and length. Of later writes and truncations of that file each is there, or not, or in
//   part: any of its sectors of 512 bytes, the file as long as it would be with all of them and zeros where nothing was written. What fsync(folder) has
//   covered is there: creations, renames and removals of names in that folder. Of later ones each is there or not, whatever the others (dropped and
//   reordered: operations on different names commute, and those on one name, which do not, depend on each other: one that finds no such name does
//   nothing). fsync(file) says nothing of the file's name, nor fsync(folder) of what is in its files. A rename is atomic: the name is old or new.
//
// ORDERED JOURNAL, as ext4 with data=ordered and delayed allocation. Operations on names reach the disk in their order; each fsync, of whatever, commits
//   all before it. So a beginning of those since the last fsync is there. Of a file's bytes since its own fsync a beginning is there, cut at any block of 4096
//   bytes, whether or not its name is: a new file may well be empty.
#pragma once
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>
#include "../../llmc/io/files.h"
#include "../layers.h"
#include "tracer.h"

struct Operation {
    enum What { CREATE, RENAME, REMOVE, WRITE, TRUNCATE, SYNC } what;  // CREATE: a file, a folder or a link; REMOVE: any of them
    int node = -1;                 // the file or folder that it is about
    int folder = -1, folder2 = -1; // where its name is, and where the new one of a RENAME
    std::string name, name2;
    uint64_t at = 0;               // WRITE: the offset; TRUNCATE: the length
    std::string data;              // WRITE
    std::string text;              // for whoever reads of it
    bool is_of_names() const { return what == CREATE || what == RENAME || what == REMOVE; }
};

struct Node { bool is_folder = false; std::map<std::string, int> entries; std::shared_ptr<const std::string> data; };

// Node 0 is the root.
struct Disk {
    std::vector<Node> nodes{Node{true, {}, nullptr}};

    int find(const std::string& path) const {  // -1: no such thing
        int node = 0;
        for (size_t at = 0, end; node >= 0 && at < path.size(); at = end + 1) {
            end = std::min(path.find('/', at), path.size());
            const auto entry = nodes[(size_t)node].entries.find(path.substr(at, end - at));
            node = entry == nodes[(size_t)node].entries.end() ? -1 : entry->second;
        }
        return node;
    }
    const std::string& data(int node) const {
        static const std::string none;
        return nodes[(size_t)node].data ? *nodes[(size_t)node].data : none;
    }
    void set_data(int node, std::string text) { nodes[(size_t)node].data = std::make_shared<const std::string>(std::move(text)); }

    void apply(const Operation& o) {
        const auto entries = [&](int folder) -> std::map<std::string, int>& { return nodes[(size_t)folder].entries; };
        const auto names = [&](int folder, const std::string& name) { const auto e = entries(folder).find(name); return e == entries(folder).end() ? -1 : e->second; };
        if (o.what == Operation::CREATE && names(o.folder, o.name) < 0) entries(o.folder)[o.name] = o.node;
        if (o.what == Operation::REMOVE && names(o.folder, o.name) == o.node) entries(o.folder).erase(o.name);
        if (o.what == Operation::RENAME && names(o.folder, o.name) == o.node) {
            const int there = names(o.folder2, o.name2);
            if (there >= 0 && nodes[(size_t)there].is_folder && !nodes[(size_t)there].entries.empty()) return;  // as ENOTEMPTY
            entries(o.folder).erase(o.name), entries(o.folder2)[o.name2] = o.node;
        }
        if (o.what == Operation::WRITE || o.what == Operation::TRUNCATE) {
            std::string text = data(o.node);
            if (o.what == Operation::TRUNCATE) text.resize(o.at);
            else text.resize(std::max<size_t>(text.size(), o.at + o.data.size())), text.replace(o.at, o.data.size(), o.data);
            set_data(o.node, std::move(text));
        }
    }
    // Some sectors of a write: those for which keep(number) holds; nothing beyond `cut` bytes.
    template <class Keep> void apply_in_part(const Operation& o, size_t sector, size_t cut, const Keep& keep) {
        std::string text = data(o.node);
        const size_t n = std::min(o.data.size(), cut);
        text.resize(std::max<size_t>(text.size(), o.at + n));
        for (size_t at = 0, end; at < n; at = end) {
            end = std::min(n, (((size_t)o.at + at) / sector + 1) * sector - (size_t)o.at);
            if (keep((o.at + at) / sector)) text.replace(o.at + at, end - at, o.data, at, end - at);
        }
        set_data(o.node, std::move(text));
    }
};

// Records what a run does below `root`.
class Recorder {
    const std::string root;
    std::string relative(const std::string& path) const { return path.size() > root.size() ? path.substr(root.size() + 1) : ""; }
    void place(const std::string& path, int& folder, std::string& name) const {
        const std::string inside = relative(path);
        const size_t slash = inside.rfind('/');
        folder = live.find(slash == inside.npos ? "" : inside.substr(0, slash)), name = inside.substr(slash == inside.npos ? 0 : slash + 1);
        CHECK(folder >= 0, "%s: recorded in a folder that was not seen to be made", path.c_str());
    }
    int new_node(bool is_folder) { return live.nodes.push_back({is_folder, {}, nullptr}), (int)live.nodes.size() - 1; }
    void add(Operation o, const Call& call) {
        o.text = std::string(call.row->name) + " " + relative(call.path) + (call.path2.empty() ? "" : " -> " + relative(call.path2));
        live.apply(o);
        operations.push_back(std::move(o));
    }
    void load(const std::string& path, int folder) {
        for (const std::string& name : list_folder(path)) {
            struct stat s;
            if (lstat((path + "/" + name).c_str(), &s)) continue;
            const int node = new_node(S_ISDIR(s.st_mode));
            live.nodes[(size_t)folder].entries[name] = node;
            if (S_ISDIR(s.st_mode)) load(path + "/" + name, node);
            else live.set_data(node, read_file(path + "/" + name));
        }
    }

public:
    Disk live;      // as it would be now without a cut
    Disk began_as;  // before the first operation, all of it synced
    std::vector<Operation> operations;

    explicit Recorder(const std::string& root_) : root(root_) { load(root, 0), began_as = live; }

    void record(const Call& call, long result) {
        if (result < 0) return;
        Operation o{};
        const int node = call.path.ends_with(" (deleted)") ? -1 : live.find(relative(call.path));
        switch (call.row->does) {
        case Does::OPENS:
            if (node >= 0 && (call.arguments[call.row->path + 1] & O_TRUNC) && !live.data(node).empty()) o.what = Operation::TRUNCATE, o.node = node, add(o, call);
            if (node >= 0) return;
            o.what = Operation::CREATE, o.node = new_node(false), place(call.path, o.folder, o.name);
            return add(o, call);
        case Does::MAKES_FOLDER:
            o.what = Operation::CREATE, o.node = new_node(true), place(call.path, o.folder, o.name);
            return add(o, call);
        case Does::UNLINKS: case Does::REMOVES_FOLDER:
            o.what = Operation::REMOVE, o.node = node, place(call.path, o.folder, o.name);
            return add(o, call);
        case Does::RENAMES:
            o.what = Operation::RENAME, o.node = node, place(call.path, o.folder, o.name), place(call.path2, o.folder2, o.name2);
            return add(o, call);
        case Does::LINKS:
            o.what = Operation::CREATE, o.node = node, place(call.path2, o.folder, o.name);
            return add(o, call);
        case Does::TRUNCATES:
            o.what = Operation::TRUNCATE, o.node = node, o.at = call.arguments[1];
            return node < 0 ? void() : add(o, call);
        case Does::SYNCS:
            o.what = Operation::SYNC, o.node = node;
            return node < 0 ? void() : add(o, call);
        case Does::WRITES: {
            if (node < 0) return;
            unsigned long long position = 0;
            const std::string info = [&] { std::string text; (void)try_read_file(format("/proc/%d/fdinfo/%d", (int)call.process, call.fd), text); return text; }();
            CHECK(sscanf(info.c_str(), "pos: %llu", &position) == 1, "%s: where it was written is not known", call.path.c_str());
            o.what = Operation::WRITE, o.node = node;
            o.at = call.row->number == SYS_pwrite64 ? call.arguments[3] : position - (uint64_t)result, o.data = tracee_bytes(call.process, call.arguments[1], (size_t)result);
            return add(o, call);
        }
        case Does::OTHER: die("%s: no operation of this kind can be replayed", call.text().c_str());
        default: return;
        }
    }
};

// The operations up to one, with what the syncs among them have made durable: `base`; and those that may or may not be there: `pending`.
class PowerCut {
    const bool journal;
    Random random;
    // A rename between folders would need both synced; there is none.
    bool covers(const Operation& sync, const Operation& o) const { return o.is_of_names() ? journal || o.folder == sync.node : o.node == sync.node; }
    Disk journal_state(size_t of_names, const std::function<double()>& share) {
        Disk disk = base;
        std::map<int, std::vector<const Operation*>> writes;
        for (const Operation* o : pending) {
            if (!o->is_of_names()) writes[o->node].push_back(o);
            else if (of_names > 0) disk.apply(*o), of_names--;
        }
        for (const auto& [node, list] : writes) {
            const double until = share() * (double)list.size();
            for (size_t i = 0; i < list.size() && (double)i < until; i++) {
                const bool last = (double)(i + 1) > until;
                if (!last || list[i]->what != Operation::WRITE) disk.apply(*list[i]);
                else disk.apply_in_part(*list[i], 4096, (size_t)((until - (double)i) * (double)list[i]->data.size()) / 4096 * 4096, [](size_t) { return true; });
            }
        }
        return disk;
    }

public:
    Disk base;
    std::vector<const Operation*> pending;

    PowerCut(bool journal_, const Disk& began_as, uint64_t seed) : journal(journal_), random(seed), base(began_as) {}
    void step(const Operation& o, bool ignored = false) {
        if (o.what != Operation::SYNC) pending.push_back(&o);
        else if (!ignored) std::erase_if(pending, [&](const Operation* p) {
            if (covers(o, *p)) base.apply(*p);
            return covers(o, *p);
        });
    }
    std::vector<const Operation*> covered_by(const Operation& sync) const {
        std::vector<const Operation*> covered;
        for (const Operation* o : pending) if (covers(sync, *o)) covered.push_back(o);
        return covered;
    }
    enum Part { NONE, ALL, SOME };
    void apply(Disk& disk, const Operation& o, Part part) {
        if (part == SOME && o.what == Operation::WRITE) {
            const size_t cut = random.between(0, 1) ? o.data.size() : (size_t)random.between(0, (int)o.data.size());
            const uint64_t odds = (uint64_t)random.between(1, 3);
            disk.apply_in_part(o, 512, cut, [&](size_t) { return (uint64_t)random.between(0, 3) < odds; });
        } else if (part != NONE) disk.apply(o);
    }
    // The weakest model's: part(operation) of each.
    template <class P> Disk state_of(const P& part) {
        Disk disk = base;
        for (const Operation* o : pending) apply(disk, *o, part(*o));
        return disk;
    }
    // The n-th state: first those that are most likely to be wrong, then others at random; n from 0.
    Disk state(int n) {
        size_t of_names = 0;
        for (const Operation* o : pending) of_names += o->is_of_names();
        if (journal) {
            if (n == 0) return base;
            if (n == 1) return journal_state(of_names, [] { return 1.0; });
            if (n == 2) return journal_state(of_names, [] { return 0.0; });
            return journal_state((size_t)random.between(0, (int)of_names), [&] { const int r = random.between(0, 3); return r == 0 ? 0.0 : r == 1 ? 1.0 : random.between(0, 1000) / 1000.0; });
        }
        Disk disk = base;
        const int k = (int)pending.size(), mode = random.between(0, 3);
        for (int i = 0; i < k; i++) {
            const Operation& o = *pending[(size_t)i];
            Part part = ALL;
            if (n == 0) part = NONE;
            else if (n == 2) part = o.is_of_names() ? ALL : NONE;
            else if (n == 3) part = o.is_of_names() ? NONE : ALL;
            else if (n >= 4 && n < 4 + k) part = i == n - 4 ? NONE : ALL;          // one alone is missing,
            else if (n >= 4 + k && n < 4 + 2 * k) part = i == n - 4 - k ? ALL : NONE;  // or there,
            else if (n >= 4 + 2 * k && n < 4 + 3 * k) part = i == n - 4 - 2 * k ? SOME : ALL;  // or torn
            else if (n >= 4 + 3 * k) part = mode == 0 ? (Part)random.between(0, 2) : random.between(0, 3) < mode ? ALL : random.between(0, 1) ? NONE : SOME;
            apply(disk, o, part);
        }
        return disk;
    }
    int special_states() const { return journal ? 3 : 4 + 3 * (int)pending.size(); }
};

// Writes the disk out below `path`. Files with the same bytes are links to one of `pool`, if one is named: they are only read.
inline void write_out(const Disk& disk, int node, const std::string& path, const std::string& pool) {
    const Node& n = disk.nodes[(size_t)node];
    if (n.is_folder) {
        CHECK(mkdir(path.c_str(), 0777) == 0 || errno == EEXIST, "%s", errno_text(path).c_str());
        for (const auto& [name, entry] : n.entries) write_out(disk, entry, path + "/" + name, pool);
        return;
    }
    const std::string& data = disk.data(node);
    const std::string file = pool.empty() ? path : pool + format("/%016llx-%zu", (unsigned long long)xxh64(data.data(), data.size()), data.size());
    if (pool.empty() || access(file.c_str(), F_OK)) {
        const int fd = open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        CHECK(fd >= 0 && write(fd, data.data(), data.size()) == (ssize_t)data.size() && close(fd) == 0, "%s", errno_text(file).c_str());
    }
    CHECK(pool.empty() || link(file.c_str(), path.c_str()) == 0, "%s", errno_text(path).c_str());
}
