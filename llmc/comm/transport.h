// transport.h: what carries bytes between the ranks of a run. A file an implementation: shared memory (shared_memory.h), MPI (mpi.h), NCCL (nccl.h).
// What it carries is added by our own code in a fixed order, unless --reduce nccl asks for the library's sums.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>
#include "../backend.h"
#include "../base/check.h"

// From or to another rank. Several messages of one pair arrive in the order in which both sides list them.
struct Message {
    int peer;
    void* data;    // device memory
    size_t bytes;  // as many as the other side says
};

// Every rank makes the same calls in the same order. A call that cannot be completed within flight_recorder().deadline, or that does not fit what
// another rank calls, ends the process with one line that names the culprit, and EXIT_COMM.
class Transport {
public:
    virtual ~Transport() = default;
    // all (world, bytes) of host memory: of each rank what it had in its own part. Blocks; for the few bytes by which ranks agree.
    virtual void all_gather_host(void* all, size_t bytes) = 0;
    // Device memory, in the order of the stream; messages to and from other ranks alone.
    virtual void exchange(const std::vector<Message>& sends, const std::vector<Message>& receives, stream_t stream) = 0;
    // all (world, bytes) of device memory, likewise in place
    virtual void all_gather(void* all, size_t bytes, stream_t stream) = 0;
    // Whether it has sums of its own, which it makes in whatever order it likes, the same for all ranks. Of floats in device memory, in place:
    virtual bool adds() const { return false; }
    // all (world, n), and behind it `rest` more, which belong to the last rank: each rank gets the sum of its own part; the others' are left undefined.
    virtual void reduce_scatter(float* /*all*/, size_t /*n*/, size_t /*rest*/, stream_t) { die("this transport adds nothing"); }
    virtual void all_reduce(float* /*all*/, size_t /*n*/, stream_t) { die("this transport adds nothing"); }
    // comm.h; places: a hash of what lies where in it. one_machine: of all ranks.
    virtual void* memory_of_collectives(size_t bytes, uint64_t /*places*/, bool /*one_machine*/) { return device_alloc(bytes); }
    // For a run's first lines: whether ranks see each other's memory, and why not. "" where that is no question.
    virtual std::string windows() const { return ""; }
    // All is well on every rank; whoever does not come here has failed.
    virtual void leave() = 0;
    // What ends then, too: MPI, where it brought the ranks together.
    void (*also_ends)() = nullptr;
};
