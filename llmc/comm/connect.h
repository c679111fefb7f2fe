// connect.h: the transport for ranks that were started like that. What a backend has: on a CPU shared memory and MPI; on GPUs NCCL, whose ranks find
// each other by shared memory, MPI's broadcast, rank 0's port or a shared folder.
#pragma once
#include <memory>
#include <string>
#include "folder_rendezvous.h"
#include "launcher.h"
#include "nccl.h"
#include "shared_memory.h"
#include "spawn.h"
#include "tcp_rendezvous.h"
#include "transport.h"
#ifdef LLMC_MPI
#include "mpi.h"
#else
inline std::shared_ptr<Transport> open_mpi(const Place& place) {
    die_with(EXIT_USAGE, "%s: %d processes, but this program was built without MPI: install OpenMPI (openmpi-bin, libopenmpi-dev) and make again, or start one with --ranks %d",
             place.by.c_str(), place.world, place.world);
}
inline std::string broadcast_by_mpi(const Place&, const std::string&) {
    die_with(EXIT_USAGE, "--init: mpi, but this program was built without MPI: install OpenMPI (openmpi-bin, libopenmpi-dev) and make again, or give tcp or fs");
}
inline void finalize_mpi() {}
#endif

// How ranks find each other. secret: what they must know to be let in by tcp; empty: LLMC_SECRET of the environment, else there is none.
struct Meeting { std::string init, server, folder, secret; };

namespace connect_detail {
// Rank 0's bytes, on all.
inline std::string meet(const Place& place, const Meeting& how, const std::string& bytes) {
    const std::string run_id = run_id_of(place);
    if (how.init == "tcp") return rendezvous_tcp(place, bytes, {.server = how.server, .secret = how.secret, .run_id = run_id});
    if (how.init == "fs") return rendezvous_folder(place, bytes, {.folder = how.folder, .run_id = run_id});
    return broadcast_by_mpi(place, bytes);
}
}  // namespace connect_detail

inline std::shared_ptr<Transport> connect(const Place& place, const Meeting& how) {
    void* memory = place.by == "spawned" ? shared_with_siblings(shared_memory_bytes(place.world)) : nullptr;
    if constexpr (!RANKS_ARE_GPUS) return memory ? std::make_shared<SharedMemoryTransport>(place.rank, place.world, memory) : open_mpi(place);
    NcclId id{};
    if (place.rank == 0) id = new_nccl_id();
    if (memory) {
        std::vector<NcclId> ids((size_t)place.world, id);
        SharedMemoryTransport(place.rank, place.world, memory).all_gather_host(ids.data(), sizeof(NcclId));
        id = ids[0];
    } else {
        const std::string bytes = connect_detail::meet(place, how, std::string(id.bytes, sizeof id.bytes));
        CHECK(bytes.size() == sizeof id.bytes, "--init: rank 0 gives %zu bytes, expected %zu", bytes.size(), sizeof id.bytes);
        memcpy(id.bytes, bytes.data(), sizeof id.bytes);
    }
    const std::shared_ptr<Transport> nccl = open_nccl(place.rank, place.world, id);
    if (!memory && how.init != "tcp" && how.init != "fs") nccl->also_ends = finalize_mpi;
    return nccl;
}
