// ranks_test.h: ranks that are processes of a test and share memory.
#pragma once
#include <sys/mman.h>
#include <unistd.h>
#include <functional>
#include <memory>
#include <thread>
#include <vector>
#include "../../llmc/comm/comm.h"
#include "../../llmc/comm/shared_memory.h"
#include "../test.h"

// body(comm) on each rank, in a process of its own, when all are there: no deadline counts another's beginning. What each said, and its exit code.
inline std::vector<Outcome> run_ranks(int world, double deadline, const std::function<void(const Comm&)>& body) {
    void* memory = mmap(nullptr, shared_memory_bytes(world), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    std::atomic<int>& there = *(std::atomic<int>*)mmap(nullptr, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    std::vector<Outcome> outcomes((size_t)world);
    std::vector<std::thread> waiting;
    for (int rank = 0; rank < world; rank++)
        waiting.emplace_back([&, rank] {
            outcomes[(size_t)rank] = run_child([&] {
                alarm(60);
                g_rank = rank, g_world = world;
                flight_recorder().deadline = deadline;
                Comm comm;
                comm.rank = rank, comm.world = world, comm.transport = std::make_shared<SharedMemoryTransport>(rank, world, memory);
                for (there++; there < world;) usleep(1000);
                body(comm);
                comm.leave();
            });
        });
    for (std::thread& t : waiting) t.join();
    munmap(memory, shared_memory_bytes(world)), munmap(&there, sizeof(int));
    return outcomes;
}
