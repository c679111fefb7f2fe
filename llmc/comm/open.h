// open.h: from the way a process was started to its communicator.
#pragma once
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>
#include "../base/limits.h"
#include "../base/xxh64.h"
#include "comm.h"
#include "connect.h"
#include "launcher.h"

// From here on errors say whose they are, and only rank 0 prints anything else.
inline void speak_as(const Place& place) {
    g_rank = place.rank, g_world = place.world;
    if (g_rank == 0) return;
    const int null = open("/dev/null", O_WRONLY);
    if (null >= 0) dup2(null, STDOUT_FILENO), close(null);
}

inline Comm open_comm(const Place& place, const Meeting& how) {
    Comm comm{.rank = place.rank, .world = place.world, .local_rank = place.local_rank, .local_world = place.local_world, .transport = nullptr};
    if (place.world > 1) use_device(place.local_rank), comm.transport = connect(place, how);
    return comm;
}

// Ranks of each node, if there are several nodes, all have as many, a power of two, and are filled one after the other: then what the ranks of a node add
// is a node of the tree of leaves. Else 0.
inline int ranks_of_each_node(const Comm& comm) {
    struct Local { int rank, world; };
    std::vector<Local> all((size_t)comm.world);
    all[(size_t)comm.rank] = {comm.local_rank, comm.local_world};
    comm.all_gather(all);
    const int G = all[0].world;
    for (int r = 0; r < comm.world; r++) if (all[(size_t)r].world != G || all[(size_t)r].rank != r % G) return 0;
    return G > 1 && G < comm.world && comm.world % G == 0 && (G & (G - 1)) == 0 ? G : 0;
}

// Cores for each rank. A launcher may have bound its ranks to cores of their own; ranks of one machine with the same affinity share its cores.
inline int cores_of_rank(const Comm& comm) {
    struct Home { uint64_t host, affinity; };
    char name[256] = "";
    gethostname(name, sizeof name - 1);
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set)) memset(&set, 0, sizeof set);
    std::vector<Home> homes((size_t)comm.world);
    const Home mine = homes[(size_t)comm.rank] = {xxh64(name, strlen(name)), xxh64(&set, sizeof set)};
    comm.all_gather(homes);
    const auto together = std::count_if(homes.begin(), homes.end(), [&](const Home& h) { return h.host == mine.host && h.affinity == mine.affinity; });
    return std::max(usable_cores() / (int)together, 1);
}

// Dies if a rank has another value, which names the rank: `what` is said of it.
inline void must_agree(const Comm& comm, const std::string& what, const std::string& value) {
    std::vector<uint64_t> sums((size_t)comm.world);
    sums[(size_t)comm.rank] = xxh64(value.data(), value.size());
    comm.all_gather(sums);
    int first = -1;
    for (int r = comm.world - 1; r > 0; r--) if (sums[(size_t)r] != sums[0]) first = r;
    if (first < 0) return;
    const std::string rank0 = comm.broadcast(value);
    if (comm.rank == first) die_with(EXIT_USAGE, "%s: rank %d has %s, rank 0 has %s: they must be the same on every rank", what.c_str(), first, value.c_str(), rank0.c_str());
    end_silently(EXIT_USAGE);  // who differs speaks
}
