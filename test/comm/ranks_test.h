// ranks_test.h: ranks that are processes of a test and share memory.
#pragma once
#include <sys/mman.h>
#include <unistd.h>
#include <functional>
#include <memory>
#include <new>
#include <vector>
#include "../../llmc/comm/comm.h"
#include "../../llmc/comm/shared_memory.h"
#include "../test.h"

// body(comm) on each rank, in a process of its own, when all have met once: no deadline counts another's beginning. What each said, and its exit code.
inline std::vector<Outcome> run_ranks(int world, double deadline, const std::function<void(const Comm&)>& body) {
    void* memory = mmap(nullptr, shared_memory_bytes(world), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    std::vector<Child> children;
    for (int rank = 0; rank < world; rank++)
        children.push_back(start_child([&] {
            alarm(60);
            g_rank = rank, g_world = world;
            new (&flight_recorder()) FlightRecorder;  // without what other tests of this process asked for
            flight_recorder().deadline = 50;
            Comm comm;
            comm.rank = rank, comm.world = world, comm.transport = std::make_shared<SharedMemoryTransport>(rank, world, memory);
            comm.barrier();  // operation 1
            flight_recorder().deadline = deadline;
            body(comm);
            comm.leave();
        }));
    std::vector<Outcome> outcomes;
    for (const Child& child : children) outcomes.push_back(outcome_of(child));
    munmap(memory, shared_memory_bytes(world));
    return outcomes;
}
