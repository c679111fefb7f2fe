// The rules of windows in the stand-in for NCCL: which memory, by whom, where, and for how long.
#include "nccl_test.h"

namespace {
constexpr size_t BYTES = 3 * 4096;
char* window_memory(size_t bytes = BYTES) { void* p = nullptr; NCCL_OK(ncclMemAlloc(&p, bytes)); return (char*)p; }
ncclWindow_t registered(ncclComm_t c, char* p, size_t bytes = BYTES) {
    ncclWindow_t w = nullptr;
    SETTLED(c, ncclCommWindowRegister(c, p, bytes, &w, NCCL_WIN_COLL_SYMMETRIC));
    EXPECT(w != nullptr);
    return w;
}
void fill(char* p, int value, size_t bytes = BYTES) { OK(cudaMemset(p, value, bytes)); OK(cudaDeviceSynchronize()); }
struct Both { char* p; ncclComm_t c; cudaStream_t s; ncclWindow_t w; };
// Two ranks with a window each
void both(const char* text, std::function<void(int, const Both&)> call) {
    found(text, [=](int rank, ncclUniqueId id) {
        Both b{window_memory(), new_comm(rank, 2, id), new_stream(), nullptr};
        fill(b.p, 1), b.w = registered(b.c, b.p);
        call(rank, b);
        EXPECT_EQ((int)comes_to(b.c), (int)USAGE);
    });
}
}  // namespace

TEST(nccl_windows_are_refused) {
    quietly([] {
        ncclComm_t c = alone();
        void* none = nullptr;
        ncclWindow_t w = nullptr;
        char *p = window_memory(), *other = device<char>(BYTES);
        const auto add = [&](void* memory, size_t bytes, int flags = NCCL_WIN_COLL_SYMMETRIC) { return ncclCommWindowRegister(c, memory, bytes, &w, flags); };
        NCCL_REFUSED(ncclMemAlloc(nullptr, 1), ncclUnhandledCudaError);
        NCCL_REFUSED(ncclMemAlloc(&none, (size_t)1 << 50), ncclUnhandledCudaError);
        NCCL_REFUSED(ncclMemFree(other), ARGUMENT);
        NCCL_REFUSED(ncclCommWindowRegister(c, p, BYTES, nullptr, NCCL_WIN_COLL_SYMMETRIC), ARGUMENT);
        NCCL_REFUSED(ncclCommWindowRegister(nullptr, p, BYTES, &w, NCCL_WIN_COLL_SYMMETRIC), ARGUMENT);
        NCCL_REFUSED(add(nullptr, BYTES), ARGUMENT);
        NCCL_REFUSED(add(p, 0), ARGUMENT);
        NCCL_REFUSED(add(other, BYTES), ncclUnhandledCudaError);  // of cudaMalloc
        NCCL_REFUSED(add(p + 256, 256), ARGUMENT);                // not aligned
        NCCL_REFUSED(add(p, BYTES + 1), ARGUMENT);                // more than there is
        NCCL_REFUSED(add(p, BYTES, NCCL_WIN_DEFAULT), USAGE);
        NCCL_OK(ncclGroupStart());
        NCCL_REFUSED(add(p, BYTES), USAGE);
        NCCL_OK(ncclGroupEnd());
        setenv("EMU_NCCL_VERSION", "22803", 1);
        NCCL_REFUSED(add(p, BYTES), USAGE);
        unsetenv("EMU_NCCL_VERSION");
        setenv("EMU_NCCL_WINDOWS", "0", 1);
        w = (ncclWindow_t)p;
        NCCL_OK(add(p, BYTES));  // a success that gives none
        EXPECT(w == nullptr);
        NCCL_OK(ncclCommWindowDeregister(c, w));
        unsetenv("EMU_NCCL_WINDOWS");
        w = registered(c, p, 4096);
        ncclWindow_t second = registered(c, p + 4096, 4096);
        NCCL_REFUSED(add(p + 4096, 8192), USAGE);  // partly there
        EXPECT(w != nullptr || second != nullptr);
        NCCL_OK(ncclMemFree(window_memory()));
        destroy(alone());
    });
}
TEST(nccl_windows_end_in_order) {
    quietly([] {
        int early = 0;
        for (int seed = 1; seed <= 10; seed++) {
            emu::set_seed((uint64_t)seed);
            ncclComm_t c = alone();
            cudaStream_t s = new_stream();
            char* p = window_memory();
            fill(p, 1);
            ncclWindow_t w = (ncclWindow_t)p;
            const ncclResult_t r = ncclCommWindowRegister(c, p, BYTES, &w, NCCL_WIN_COLL_SYMMETRIC);
            EXPECT(w == nullptr);
            early += ncclAllReduce(p, p, 8, ncclInt8, ncclSum, c, s) == ARGUMENT;  // as after any call
            SETTLED(c, r);
            EXPECT(w != nullptr);
            NCCL_REFUSED(ncclMemFree(p), USAGE);        // registered
            NCCL_REFUSED(ncclCommFinalize(c), USAGE);   // likewise
            SETTLED(c, ncclAllReduce(p, p, 8, ncclInt8, ncclSum, c, s));
            if (cudaStreamQuery(s) == cudaErrorNotReady && emu::has_work(*c)) NCCL_REFUSED(ncclCommWindowDeregister(c, w), USAGE);
            OK(cudaStreamSynchronize(s));
            NCCL_REFUSED(ncclCommWindowDeregister(c, (ncclWindow_t)p), ARGUMENT);
            NCCL_OK(ncclCommWindowDeregister(c, w));
            NCCL_REFUSED(ncclCommWindowDeregister(c, w), ARGUMENT);  // twice
            NCCL_OK(ncclMemFree(p));
            NCCL_REFUSED(ncclMemFree(p), ARGUMENT);
            destroy(c);
        }
        EXPECT(early > 0);
        // another communicator's; and what was aborted has none
        ncclComm_t a = alone();
        char* p = window_memory();
        const ncclWindow_t w = registered(a, p);
        NCCL_OK(ncclCommAbort(a));
        NCCL_OK(ncclMemFree(p));
        EXPECT(emu::nccl_windows().count(w) == 0);
    });
    expect_found("an operation whose window is gone", "its window was deregistered before", [] {
        cudaStream_t s = new_stream();
        ncclComm_t c = alone();
        char* p = window_memory();
        fill(p, 1);
        const ncclWindow_t w = registered(c, p);
        cudaGraphExec_t exec = executable(s, [&] { SETTLED(c, ncclAllReduce(p, p, 8, ncclInt8, ncclSum, c, s)); });
        NCCL_OK(ncclCommWindowDeregister(c, w));
        OK(cudaGraphLaunch(exec, s));
        cudaStreamSynchronize(s);
    });
}
TEST(nccl_windows_are_of_all_ranks) {
    found("registers a window of", [](int rank, ncclUniqueId id) {
        ncclComm_t c = new_comm(rank, 2, id);
        ncclWindow_t w = nullptr;
        settle(c, ncclCommWindowRegister(c, window_memory(), rank ? BYTES : 4096, &w, NCCL_WIN_COLL_SYMMETRIC));
        EXPECT_EQ((int)comes_to(c), (int)USAGE);
        EXPECT(w == nullptr);
    });
    // who registers alone waits
    const Ranks all = ranks(2, [](int rank, ncclUniqueId id) {
        ncclComm_t c = new_comm(rank, 2, id);
        ncclWindow_t w = nullptr;
        if (rank == 0 && ncclCommWindowRegister(c, window_memory(), BYTES, &w, NCCL_WIN_COLL_SYMMETRIC) > ncclSuccess) EXPECT(w == nullptr);
        ncclResult_t now = ncclSuccess;
        for (int i = 0; i < 300; i++) { NCCL_OK(ncclCommGetAsyncError(c, &now)); usleep(1000); }
        EXPECT_EQ((int)now, (int)(rank ? ncclSuccess : ncclInProgress));
    });
    EXPECT(all.codes == (std::vector<int>{0, 0}));
}
TEST(nccl_windows_are_used_at_one_place) {
    both("at another place of the window", [](int rank, const Both& b) { settle(b.c, ncclAllReduce(b.p + rank * 256, b.p + rank * 256, 64, ncclInt8, ncclSum, b.c, b.s)); });
    both("at another place of the window", [](int rank, const Both& b) { settle(b.c, ncclReduceScatter(b.p + rank * 64, b.p + rank * 64 + rank * 8, 8, ncclInt8, ncclSum, b.c, b.s)); });
    both("at another place of the window", [](int rank, const Both& b) { settle(b.c, ncclAllGather(b.p, b.p + 4096 + rank * 64, 8, ncclInt8, b.c, b.s)); });
    both("one lies in a window and the other does not", [](int rank, const Both& b) {
        char* p = rank ? device(std::vector<char>(64, 1)) : b.p;
        settle(b.c, ncclAllReduce(p, p, 64, ncclInt8, ncclSum, b.c, b.s)); });
    both("one lies in a window and the other does not", [](int rank, const Both& b) {
        char* p = device(std::vector<char>(64, 1));
        settle(b.c, rank ? ncclRecv(p, 64, ncclInt8, 0, b.c, b.s) : ncclSend(b.p, 64, ncclInt8, 1, b.c, b.s)); });
    well(3, [](int rank, ncclUniqueId id) {  // in place, a group, and pairs of which both lie in it
        cudaStream_t s = new_stream();
        ncclComm_t c = new_comm(rank, 3, id);
        char* p = window_memory();
        fill(p, 1);
        const ncclWindow_t w = registered(c, p);
        NCCL_OK(ncclGroupStart());
        NCCL_OK(ncclReduceScatter(p, p + rank * 8, 8, ncclInt8, ncclSum, c, s));
        NCCL_OK(ncclAllReduce(p + 64, p + 64, 8, ncclInt8, ncclSum, c, s));
        SETTLED(c, ncclGroupEnd());
        SETTLED(c, ncclAllGather(p + 4096 + rank * 8, p + 4096, 8, ncclInt8, c, s));
        NCCL_OK(ncclGroupStart());
        NCCL_OK(ncclSend(p + 128 + rank * 8, 8, ncclInt8, (rank + 1) % 3, c, s));
        NCCL_OK(ncclRecv(p + 8192 + rank * 64, 8, ncclInt8, (rank + 2) % 3, c, s));
        SETTLED(c, ncclGroupEnd());
        const std::vector<char> sums = host(p, BYTES, s);
        EXPECT(sums[(size_t)rank * 8] == 3 && sums[64] == 3 && sums[71] == 3 && sums[4096 + 23] == 1 && sums[8192 + (size_t)rank * 64] == 1);
        NCCL_OK(ncclCommWindowDeregister(c, w));
        destroy(c);
    });
}
