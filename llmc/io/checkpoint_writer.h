// checkpoint_writer.h: a checkpoint is written whole: under a name that counts for nothing, synced, then renamed; by one rank or by several. The names that it
// has meanwhile, and its MANIFEST: checkpoint.h.
#pragma once
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>
#include "../base/check.h"
#include "checkpoint.h"
#include "files.h"
#include "json.h"
#include "run_lock.h"
#include "safetensors.h"
#include "snapshot.h"

// Several ranks write one checkpoint: each makes its own CheckpointWriter, at the same time, and adds its own files.
struct SaveRanks { int rank = 0, world = 1; std::function<void()> barrier = [] {}; };

//     CheckpointWriter save(opt.out, step);
//     save.add_text("config.json", ...);
//     save.add_tensors("model.safetensors", specs, {{"format", "pt"}}, [&](TensorSink& file) { file.write(...); });
//     save.write_files();  // with memory for a copy: what was added until now; another thread may call it
//     save.commit();       // by the thread that made it: with the other ranks
class CheckpointWriter {
    std::string out, temporary;
    int step;
    RunLock lock;  // of one save, where the run holds none
    SaveRanks ranks;
    std::vector<checkpoint_detail::ManifestLine> lines;
    Snapshot copy;
    bool written = false;

    // What goes if a write fails: the folder, if it is ours alone; of several ranks the others write there, and the next save cleans up.
    std::string scrap() const { return ranks.world == 1 ? temporary : ""; }
    std::string part_path(int rank) const { return temporary + format("/.manifest-%05d", rank); }
    void check_name(const std::string& name) const {
        const auto has_it = [&](const auto& one) { return one.name == name; };
        const bool is_new = name != "MANIFEST" && std::none_of(lines.begin(), lines.end(), has_it) && std::none_of(copy.files.begin(), copy.files.end(), has_it);
        CHECK(is_plain_name(name) && is_new, "%s: cannot add a file named %s", temporary.c_str(), json_shown(name).c_str());
    }

    void write_text(const std::string& name, std::string_view text) {
        FileWriter file(temporary + "/" + name, scrap());
        file.write(text.data(), text.size());
        lines.push_back({name, file.close()});
    }
    template <class Fill> void write_tensors(const std::string& name, const std::vector<TensorSpec>& specs, const SafetensorsMetadata& metadata, Fill fill) {
        SafetensorsWriter file(temporary + "/" + name, specs, metadata, scrap());
        TensorSink sink(file);
        fill(sink);
        lines.push_back({name, file.close()});
    }

public:
    CheckpointWriter(const std::string& out_, int step_, SaveRanks ranks_ = {}, SnapshotMemory memory = {})
        : out(out_), temporary(checkpoint_detail::hidden(out_, step_, ".new")), step(step_), ranks(std::move(ranks_)), copy(memory) {
        if (ranks.rank == 0) {
            make_folders(out);
            if (!RunLock::held_here(out))
                if (std::string holder = lock.take(out); !holder.empty()) die("%s", holder.c_str());
            clean_up_checkpoints(out);
            CHECK(mkdir(temporary.c_str(), 0777) == 0, "%s", errno_text(temporary).c_str());
        }
        ranks.barrier();
    }
    CheckpointWriter(const CheckpointWriter&) = delete;

    void add_text(const std::string& name, std::string_view text) {
        check_name(name);
        if (copy.copies()) return copy.files.push_back({name, std::string(text), {}, {}, {}});
        write_text(name, text);
    }

    // fill(sink) writes the data of all `specs`, in order.
    template <class Fill> void add_tensors(const std::string& name, const std::vector<TensorSpec>& specs,
                                           const SafetensorsMetadata& metadata, Fill fill) {
        check_name(name);
        if (copy.copies()) {
            copy.files.push_back({name, "", specs, metadata, {}});
            TensorSink sink(copy);
            return fill(sink);
        }
        write_tensors(name, specs, metadata, fill);
    }
    bool copy_is_full() const { return copy.is_full(); }  // all of the memory was used

    // Once. Of other ranks than 0 the lines of the MANIFEST too, where rank 0 finds them.
    void write_files() {
        for (const CopiedFile& file : copy.files) {
            if (file.specs.empty()) write_text(file.name, file.text);
            else write_tensors(file.name, file.specs, file.metadata, [&](TensorSink& sink) { for (const TensorPiece& piece : file.pieces) sink.write(piece); });
        }
        copy.files.clear();
        if (ranks.rank != 0) {
            const std::string text = checkpoint_detail::manifest_text(lines);
            FileWriter part(part_path(ranks.rank), scrap());
            part.write(text.data(), text.size());
            part.close();
        }
        written = true;
    }

    // When this returns, on any rank, the checkpoint is there and survives a power loss. The order makes it so:
    // 1. every file is synced (FileWriter)  2. MANIFEST is synced  3. the folder, which holds their names, is synced
    // 4. only then does it get its name     5. OUT, which holds that name, is synced   6. only then is the old one deleted
    // 7. and DONE is written
    void commit() {
        using namespace checkpoint_detail;
        if (!written) write_files();
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
            or_die(try_forget_marks(out, step, true));      // what was said of that one is not known of this one
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
