// agree.h: what the ranks of a run make sure of before they begin: the same options, the same folder, and rank 0's choices.
#pragma once
#include <unistd.h>
#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>
#include "../base/xxh64.h"
#include "../comm/open.h"
#include "../io/files.h"
#include "../io/json.h"
#include "options.h"

inline std::string names_json(const std::vector<std::string>& names) {
    Json json = Json::array();
    for (const std::string& name : names) json.push(name);
    return json_dump(json);
}

// Rank 0 first, as it may make a file that the others then find.
template <class Work> void in_turn(const Comm& comm, Work work) {
    if (comm.rank == 0) work();
    comm.barrier();
    if (comm.rank != 0) work();
}

// Kernels are loaded and autotuned. Rank 0 measures, and its choices are everyone's, as ranks that round differently would make other bits than one rank
// does. `choices`: those of the checkpoint that is resumed, which come first; then those of this run. Who cannot use what it is given says so.
template <class Work> void autotune_together(const Comm& comm, stream_t& stream, const std::string& cache, std::vector<std::string>& choices, Work work) {
    std::string unused;
    if (comm.rank == 0) {
        unused = warm_up_and_autotune(stream, {.cache = cache, .given = choices}, work);
        if (!unused.empty()) printf("resume   autotuned choices of the checkpoint: %s: this machine's own are used, bits may change\n", unused.c_str());
    }
    if (comm.rank == 0) choices = autotuned_choices();
    if (comm.world == 1) return;
    std::string text;
    for (const std::string& line : choices) text += line + "\n";
    text = comm.broadcast(text), choices.clear();
    for (size_t at = 0, end; at < text.size(); at = end + 1) choices.push_back(text.substr(at, (end = text.find('\n', at)) - at));
    if (comm.rank != 0) unused = warm_up_and_autotune(stream, {.cache = cache, .given = choices, .complete = true}, work);
    std::vector<char> all((size_t)comm.world);
    all[(size_t)comm.rank] = comm.rank != 0 && !unused.empty();
    comm.all_gather(all);
    const int first = (int)(std::find(all.begin(), all.end(), 1) - all.begin()), others = (int)std::count(all.begin(), all.end(), 1) - 1;
    if (first == comm.rank)
        fprintf(stderr, "rank %d%s: autotuned choices of rank 0: %s: its own are used, bits may change with the number of ranks\n", comm.rank,
                others > 0 ? format(" and %d others", others).c_str() : "", unused.c_str());
}

namespace run_detail {
// OUT is one folder for all: what rank 0 writes there the others read.
inline void check_shared_out(const Comm& comm, const std::string& out) {
    if (out.empty() || comm.world == 1) return;
    const std::string path = out + "/.ranks", nonce = comm.broadcast(std::to_string(std::random_device()()) + "\n");
    if (comm.rank == 0) write_file_atomically(path, nonce);
    comm.barrier();
    std::string found;
    for (int look = 0; look < 100 && found != nonce; look++) {  // a network's file system may be seconds behind
        if (look) usleep(100'000);
        (void)try_read_file(path, found);
    }
    const bool all_found = !comm.any(found != nonce);
    if (comm.rank == 0) unlink(path.c_str());
    if (all_found) return;
    if (found != nonce) die_with(EXIT_USAGE, "--out: %s of rank %d is not the folder of rank 0: it must be one that all machines share", out.c_str(), comm.rank);
    end_silently(EXIT_USAGE);  // who does not find it speaks
}

inline void must_agree_on_options(const Comm& comm, const Options& opt) {
    std::vector<uint64_t> sums((size_t)comm.world);
    const auto differ = [&](const std::string& value) {
        sums[(size_t)comm.rank] = xxh64(value.data(), value.size());
        comm.all_gather(sums);
        return std::any_of(sums.begin(), sums.end(), [&](uint64_t sum) { return sum != sums[0]; });
    };
    std::string all;
    for (const options_detail::OptionRow& row : options_detail::TABLE) if (strcmp(row.field, "rank")) all += row.text(opt) + "\n";
    if (!differ(all)) return;
    for (const options_detail::OptionRow& row : options_detail::TABLE) if (strcmp(row.field, "rank")) must_agree(comm, row.name(), "'" + row.text(opt) + "'");
}

// What rank 0 chose by measuring is everyone's.
inline void share_choices(const Comm& comm, Options& opt) {
    if (comm.world == 1) return;
    for (const options_detail::OptionRow& row : options_detail::TABLE) if (strcmp(row.field, "rank")) row.set(opt, comm.broadcast(row.text(opt)));
    const Json chosen = json_parse(comm.broadcast(names_json(opt.chosen)), "options");
    opt.chosen.clear();
    for (const Json& name : chosen.as_array("options")) opt.chosen.push_back(name.as_string("options"));
    for (const std::string& name : opt.chosen) if (!was_given(opt, name)) opt.given.push_back(name);
}
}  // namespace run_detail
