// The rules of the stand-in for NCCL: what it refuses, what is in progress, what it finds. Ranks are children of a test.
#include <dlfcn.h>
#include "nccl_test.h"

// ---- the library itself, where it answers without a GPU --------------------------------------------------------------------
TEST(nccl_as_the_library) {
    const char* path = getenv("EMU_NCCL_LIBRARY");
    if (!path) SKIP("make test-nccl asks the library that is installed");
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) { FAIL("%s", dlerror()); return; }
    const auto find = [&](auto* f, const char* name) { void* at = dlsym(library, name); if (!at) { FAIL("no %s in the library", name); exit(1); } memcpy((void*)f, &at, sizeof at); };
    int (*version)(int*), (*id)(void*), (*group_start)(), (*group_end)(), (*destroy_)(void*), (*abort_)(void*), (*finalize)(void*), (*error)(void*, int*), (*count)(void*, int*), (*rank)(void*, int*);
    int (*send)(const void*, size_t, int, int, void*, void*), (*gather)(const void*, void*, size_t, int, void*, void*), (*reduce)(const void*, void*, size_t, int, int, void*, void*);
    int (*broadcast)(const void*, void*, size_t, int, int, void*, void*);
    const char *(*text)(int);
    find(&version, "ncclGetVersion"), find(&id, "ncclGetUniqueId"), find(&group_start, "ncclGroupStart"), find(&group_end, "ncclGroupEnd"), find(&destroy_, "ncclCommDestroy");
    find(&abort_, "ncclCommAbort"), find(&finalize, "ncclCommFinalize"), find(&error, "ncclCommGetAsyncError"), find(&count, "ncclCommCount"), find(&rank, "ncclCommUserRank");
    find(&send, "ncclSend"), find(&gather, "ncclAllGather"), find(&reduce, "ncclAllReduce"), find(&broadcast, "ncclBroadcast"), find(&text, "ncclGetErrorString");
    char x[256];
    int n = 0;
    ncclUniqueId theirs;
    EXPECT_EQ(version(&n), 0);
    printf("        NCCL %d\n", n);
    if (n >= NCCL_VERSION(2, 28, 7)) for (const char* name : {"ncclMemAlloc", "ncclCommWindowRegister", "ncclCommWindowDeregister"}) EXPECT(dlsym(library, name) && dlsym(RTLD_DEFAULT, name));  // llmc/comm/nccl.h looks them up
    quietly([&] {
        ncclResult_t e;
        struct Pair { const char* call; int library, here; };
        const Pair pairs[] = {
            {"ncclGetVersion(null)", version(nullptr), ncclGetVersion(nullptr)},
            {"ncclGetUniqueId(null)", id(nullptr), ncclGetUniqueId(nullptr)},
            {"ncclGetUniqueId", id(&theirs), ncclGetUniqueId((ncclUniqueId*)x)},
            {"ncclGroupEnd alone", group_end(), ncclGroupEnd()},
            {"ncclGroupStart", group_start(), ncclGroupStart()},
            {"ncclSend(null) in a group", send(x, 1, 0, 0, nullptr, nullptr), ncclSend(x, 1, ncclInt8, 0, nullptr, nullptr)},
            {"ncclGroupEnd after an error", group_end(), ncclGroupEnd()},
            {"ncclGroupEnd twice", group_end(), ncclGroupEnd()},
            {"ncclCommDestroy(null)", destroy_(nullptr), ncclCommDestroy(nullptr)},
            {"ncclCommAbort(null)", abort_(nullptr), ncclCommAbort(nullptr)},
            {"ncclCommFinalize(null)", finalize(nullptr), ncclCommFinalize(nullptr)},
            {"ncclCommGetAsyncError(null)", error(nullptr, &n), ncclCommGetAsyncError(nullptr, &e)},
            {"ncclCommCount(null)", count(nullptr, &n), ncclCommCount(nullptr, &n)},
            {"ncclCommUserRank(null)", rank(nullptr, &n), ncclCommUserRank(nullptr, &n)},
            {"ncclSend(null)", send(x, 1, 0, 0, nullptr, nullptr), ncclSend(x, 1, ncclInt8, 0, nullptr, nullptr)},
            {"ncclAllGather(null)", gather(x, x, 1, 0, nullptr, nullptr), ncclAllGather(x, x, 1, ncclInt8, nullptr, nullptr)},
            {"ncclAllReduce(null)", reduce(x, x, 1, 0, 0, nullptr, nullptr), ncclAllReduce(x, x, 1, ncclInt8, ncclSum, nullptr, nullptr)},
            {"ncclBroadcast(null)", broadcast(x, x, 1, 0, 0, nullptr, nullptr), ncclBroadcast(x, x, 1, ncclInt8, 0, nullptr, nullptr)},
        };
        for (const Pair& p : pairs) if (p.library != p.here) FAIL("%s: %d, the library %d", p.call, p.here, p.library);
        for (int i = 0; i <= 9; i++) EXPECT_STR(ncclGetErrorString((ncclResult_t)i), text(i));
    });
}

// ---- what is refused -------------------------------------------------------------------------------------------------------
TEST(nccl_communicators_are_refused) {
    quietly([] {
        const ncclUniqueId id = new_id();
        ncclComm_t c = nullptr;
        ncclConfig_t good = not_blocking(), k = good;
        NCCL_REFUSED(ncclCommInitRankConfig(nullptr, 1, id, 0, &good), ARGUMENT);
        for (auto [rank, world] : std::vector<std::pair<int, int>>{{0, 0}, {1, 1}, {-1, 2}, {0, -1}}) NCCL_REFUSED(ncclCommInitRankConfig(&c, world, id, rank, &good), ARGUMENT);
        k.magic = 1; NCCL_REFUSED(ncclCommInitRankConfig(&c, 1, id, 0, &k), ARGUMENT); k = good;
        k.size = 0; NCCL_REFUSED(ncclCommInitRankConfig(&c, 1, id, 0, &k), ARGUMENT); k = good;
        k.blocking = 2; NCCL_REFUSED(ncclCommInitRankConfig(&c, 1, id, 0, &k), ARGUMENT); k = good;
        k.cgaClusterSize = 9; NCCL_REFUSED(ncclCommInitRankConfig(&c, 1, id, 0, &k), ARGUMENT); k = good;
        k.minCTAs = 0; NCCL_REFUSED(ncclCommInitRankConfig(&c, 1, id, 0, &k), ARGUMENT); k = good;
        k.minCTAs = 4, k.maxCTAs = 2; NCCL_REFUSED(ncclCommInitRankConfig(&c, 1, id, 0, &k), ARGUMENT); k = good;
        k.splitShare = 3; NCCL_REFUSED(ncclCommInitRankConfig(&c, 1, id, 0, &k), ARGUMENT);
        ncclUniqueId none = {};
        NCCL_REFUSED(ncclCommInitRankConfig(&c, 1, none, 0, &good), ncclSystemError);
        EXPECT(c == nullptr);
        c = new_comm(0, 1, id);
        ncclComm_t again = nullptr;
        NCCL_REFUSED(ncclCommInitRankConfig(&again, 1, id, 0, &good), USAGE);
        NCCL_REFUSED(ncclCommSplit(c, -2, 0, &again, nullptr), ARGUMENT);
        NCCL_REFUSED(ncclCommSplit(c, 0, 0, nullptr, nullptr), ARGUMENT);
        NCCL_REFUSED(ncclCommDestroy(c), USAGE);  // not finalized
        destroy(c);
        NCCL_REFUSED(ncclCommDestroy(c), ARGUMENT);
        NCCL_REFUSED(ncclCommFinalize(c), ARGUMENT);
        NCCL_REFUSED(ncclCommCount(c, nullptr), ARGUMENT);
        // whoever made an id must be there
        int fd[2];
        if (pipe(fd)) abort();
        if (fork() == 0) { const ncclUniqueId theirs = new_id(); if (write(fd[1], &theirs, sizeof theirs) < 0) {} _exit(0); }
        ncclUniqueId gone;
        EXPECT(read(fd[0], &gone, sizeof gone) == sizeof gone);
        wait(nullptr);
        NCCL_REFUSED(ncclCommInitRankConfig(&c, 1, gone, 0, &good), ncclSystemError);
        EXPECT(std::string(ncclGetLastError(nullptr)).find("nobody answers") != std::string::npos);
    });
}
TEST(nccl_calls_are_refused) {
    quietly([] {
        cudaStream_t s = new_stream(), dead = new_stream();
        OK(cudaStreamDestroy(dead));
        ncclComm_t c = alone();
        char *x = device<char>(64), *y = device<char>(64), on_host[64];
        NCCL_REFUSED(ncclSend(x, 1, ncclInt8, 1, c, s), ARGUMENT);
        NCCL_REFUSED(ncclRecv(x, 1, ncclInt8, -1, c, s), ARGUMENT);
        NCCL_REFUSED(ncclBroadcast(x, x, 1, ncclInt8, 1, c, s), ARGUMENT);
        NCCL_REFUSED(ncclAllGather(x, y, 1, (ncclDataType_t)77, c, s), ARGUMENT);
        NCCL_REFUSED(ncclAllGather(x, y, 1, (ncclDataType_t)-1, c, s), ARGUMENT);
        NCCL_REFUSED(ncclAllReduce(x, y, 1, ncclInt8, (ncclRedOp_t)9, c, s), ARGUMENT);
        NCCL_REFUSED(ncclAllGather(x, nullptr, 1, ncclInt8, c, s), ARGUMENT);
        NCCL_REFUSED(ncclAllGather(on_host, y, 1, ncclInt8, c, s), ARGUMENT);
        NCCL_REFUSED(ncclAllGather(x, y, 65, ncclInt8, c, s), ARGUMENT);   // beyond the allocation
        NCCL_REFUSED(ncclAllGather(x, y, 17, ncclInt32, c, s), ARGUMENT);
        NCCL_REFUSED(ncclAllGather(x, x + 1, 8, ncclInt8, c, s), USAGE);   // neither in place nor apart
        NCCL_REFUSED(ncclAllReduce(x, x + 1, 8, ncclInt8, ncclSum, c, s), USAGE);
        NCCL_REFUSED(ncclAllGather(x, y, 1, ncclInt8, c, dead), ncclUnhandledCudaError);
        NCCL_OK(ncclAllGather(on_host, nullptr, 0, ncclInt8, c, s));       // nothing
        // within a group the end says so too, and nothing of it is done
        NCCL_OK(ncclGroupStart());
        NCCL_OK(ncclSend(x, 4, ncclInt8, 0, c, s));
        NCCL_REFUSED(ncclRecv(y, 4, ncclInt8, 3, c, s), ARGUMENT);
        NCCL_REFUSED(ncclGroupEnd(), ARGUMENT);
        NCCL_OK(ncclGroupStart());
        NCCL_OK(ncclSend(x, 8, ncclInt8, 0, c, s)); NCCL_OK(ncclRecv(x + 4, 8, ncclInt8, 0, c, s));
        NCCL_REFUSED(ncclGroupEnd(), USAGE);  // what is received overlaps what is sent
        NCCL_OK(ncclGroupStart());
        NCCL_OK(ncclRecv(y, 8, ncclInt8, 0, c, s)); NCCL_OK(ncclRecv(y + 7, 8, ncclInt8, 0, c, s));
        NCCL_REFUSED(ncclGroupEnd(), USAGE);
        NCCL_REFUSED(ncclGroupEnd(), USAGE);  // there is none
        // not while a stream is captured: it allocates
        OK(cudaStreamBeginCapture(s, THREAD));
        ncclComm_t other = nullptr;
        ncclConfig_t k = not_blocking();
        NCCL_REFUSED(ncclCommInitRankConfig(&other, 1, new_id(), 0, &k), ncclUnhandledCudaError);
        cudaGraph_t none;
        REFUSED(cudaStreamEndCapture(s, &none), cudaErrorStreamCaptureInvalidated);
        destroy(c);
    });
}

// ---- in progress -------------------------------------------------------------------------------------------------------------
// What a communicator was asked for is in its stream when it is no longer in progress, not before; until then it takes nothing else.
TEST(nccl_is_in_progress) {
    quietly([] {
        int early = 0, refused = 0, at_once = 0;
        for (int seed = 1; seed <= 30; seed++) {
            emu::set_seed((uint64_t)seed);
            cudaStream_t s = new_stream();
            ncclComm_t c = alone();
            const std::vector<int> values{1, 2, 3, 4, 5, 6, 7, 8};
            int *x = device(values), *y = device<int>(8);
            const ncclResult_t r = ncclAllReduce(x, y, 8, ncclInt32, ncclSum, c, s);
            if (r == ncclSuccess) at_once++;
            else {
                EXPECT_EQ((int)r, (int)ncclInProgress);
                if (ncclAllReduce(x, y, 8, ncclInt32, ncclSum, c, s) == ARGUMENT) refused++;
                OK(cudaStreamSynchronize(s));  // waits for nothing
                early += emu::queue().pending.empty() && host(y, 8, s) != values;
                SETTLED(c, r);
            }
            EXPECT(host(y, 8, s) == values);
            destroy(c);
        }
        EXPECT(early > 10 && refused > 10 && at_once > 2);
    });
}
TEST(nccl_splits) {
    well(4, [](int rank, ncclUniqueId id) {
        cudaStream_t s = new_stream();
        ncclComm_t c = new_comm(rank, 4, id), half = nullptr, none = nullptr;
        ncclConfig_t k = not_blocking();
        const ncclResult_t r = ncclCommSplit(c, rank % 2, -rank, &half, &k);
        EXPECT(half == nullptr);
        SETTLED(c, r);
        SETTLED(half, ncclSuccess);
        int world = 0, mine = -1;
        NCCL_OK(ncclCommCount(half, &world)); NCCL_OK(ncclCommUserRank(half, &mine));
        EXPECT_EQ(world, 2); EXPECT_EQ(mine, rank < 2 ? 1 : 0);  // keys fall
        SETTLED(c, ncclCommSplit(c, rank == 3 ? NCCL_SPLIT_NOCOLOR : 5, rank, &none, &k));
        EXPECT((none == nullptr) == (rank == 3));
        // both at a time
        int* x = device(std::vector<int>{rank + 1});
        SETTLED(half, ncclAllReduce(x, x, 1, ncclInt32, ncclSum, half, s));
        int* y = device(std::vector<int>{rank + 1});
        SETTLED(c, ncclAllReduce(y, y, 1, ncclInt32, ncclSum, c, s));
        EXPECT_EQ(host(x, 1, s)[0], rank % 2 ? 6 : 4); EXPECT_EQ(host(y, 1, s)[0], 10);
        if (none) destroy(none);
        destroy(half), destroy(c);
    });
}

// ---- groups, order, in place ---------------------------------------------------------------------------------------------------
TEST(nccl_collectives) {
    for (bool blocking : {false, true})
        well(3, [=](int rank, ncclUniqueId id) {
            cudaStream_t s = new_stream();
            ncclComm_t c = new_comm(rank, 3, id, blocking);
            const size_t n = 5000;  // more than a ring
            std::vector<float> mine(n), all(3 * n);
            for (size_t i = 0; i < n; i++) mine[i] = (float)(rank * 10000 + (int)i);
            for (size_t i = 0; i < 3 * n; i++) all[i] = (float)((int)(i / n) * 10000 + (int)(i % n));
            float *x = device(mine), *y = device<float>(3 * n), *z = device<float>(3 * n);
            SETTLED(c, ncclAllGather(x, y, n, ncclFloat32, c, s));
            OK(cudaMemcpyAsync(z + (size_t)rank * n, x, n * sizeof(float), cudaMemcpyDeviceToDevice, s));
            SETTLED(c, ncclAllGather(z + (size_t)rank * n, z, n, ncclFloat32, c, s));
            EXPECT(host(y, 3 * n, s) == all && host(z, 3 * n, s) == all);
            for (int root = 0; root < 3; root++) {
                SETTLED(c, ncclBroadcast(x, y, n, ncclFloat32, root, c, s));
                EXPECT(host(y, n, s) == std::vector<float>(all.begin() + (long)n * root, all.begin() + (long)n * (root + 1)));
            }
            // z = all on every rank: whole numbers, exact in any order
            SETTLED(c, ncclReduceScatter(z, y, n, ncclFloat32, ncclSum, c, s));
            std::vector<float> sum = host(y, n, s), alike = sum;
            for (size_t i = 0; i < n; i++) EXPECT(sum[i] == 3 * (float)(rank * 10000 + (int)i));
            SETTLED(c, ncclReduceScatter(z, z + (size_t)rank * n, n, ncclFloat32, ncclSum, c, s));
            EXPECT(host(z + (size_t)rank * n, n, s) == alike);
            SETTLED(c, ncclAllReduce(x, x, n, ncclFloat32, ncclMax, c, s));
            EXPECT(host(x, n, s) == std::vector<float>(all.begin() + 2 * (long)n, all.end()));
            destroy(c);
        });
}
// A group is one kernel: messages both ways, also to oneself, several of a pair in order, of any size. Without a group the first one waits for ever.
TEST(nccl_groups) {
    for (int seed = 1; seed <= 3; seed++)
        well(2, [=](int rank, ncclUniqueId id) {
            emu::set_seed((uint64_t)seed);
            cudaStream_t s = new_stream();
            ncclComm_t c = new_comm(rank, 2, id);
            const size_t n = 100000;
            char *x = device(std::vector<char>(n, (char)(rank + 1))), *y = device<char>(n), *own = device<char>(3), *short_ = device(std::vector<char>(7, (char)(rank + 5))), *got = device<char>(7);
            NCCL_OK(ncclGroupStart());
            NCCL_OK(ncclSend(x, n, ncclInt8, 1 - rank, c, s)); NCCL_OK(ncclSend(short_, 7, ncclInt8, 1 - rank, c, s)); NCCL_OK(ncclSend(x, 3, ncclInt8, rank, c, s));
            NCCL_OK(ncclSend(nullptr, 0, ncclInt8, 1 - rank, c, s)); NCCL_OK(ncclRecv(y, n, ncclInt8, 1 - rank, c, s)); NCCL_OK(ncclRecv(got, 7, ncclInt8, 1 - rank, c, s));
            NCCL_OK(ncclRecv(nullptr, 0, ncclInt8, 1 - rank, c, s)); NCCL_OK(ncclRecv(own, 3, ncclInt8, rank, c, s));
            EXPECT(emu::queue().pending.empty());  // nothing starts before the end
            SETTLED(c, ncclGroupEnd());
            EXPECT(host(y, n, s) == std::vector<char>(n, (char)(2 - rank))); EXPECT(host(got, 7, s) == std::vector<char>(7, (char)(6 - rank)));
            EXPECT(host(own, 3, s) == std::vector<char>(3, (char)(rank + 1)));
            destroy(c);
        });
    const Ranks all = ranks(2, [](int rank, ncclUniqueId id) {
        cudaStream_t s = new_stream();
        ncclComm_t c = new_comm(rank, 2, id);
        char *x = device(std::vector<char>(100000, 1)), *y = device<char>(100000);
        SETTLED(c, ncclSend(x, 100000, ncclInt8, 1 - rank, c, s)); SETTLED(c, ncclRecv(y, 100000, ncclInt8, 1 - rank, c, s));
        OK(cudaStreamSynchronize(s));
    }, 1);
    EXPECT(all.codes[0] == 137 && all.codes[1] == 137);
}
// Kernels of one communicator come in the order of the calls, on whatever streams.
TEST(nccl_streams_are_in_order) {
    for (int seed = 1; seed <= 5; seed++)
        well(2, [=](int rank, ncclUniqueId id) {
            emu::set_seed((uint64_t)seed);
            cudaStream_t streams[2] = {new_stream(), new_stream()};
            ncclComm_t c = new_comm(rank, 2, id);
            int* x = device(std::vector<int>{rank, rank + 10, rank + 20, rank + 30});
            for (int i = 0; i < 4; i++) SETTLED(c, ncclAllReduce(x + i, x + i, 1, ncclInt32, ncclSum, c, streams[(i + rank) % 2]));
            OK(cudaStreamSynchronize(streams[0])); OK(cudaStreamSynchronize(streams[1]));
            EXPECT(host(x, 4, streams[0]) == std::vector<int>({1, 21, 41, 61}));
            destroy(c);
        });
}
TEST(nccl_in_graphs) {
    well(2, [](int rank, ncclUniqueId id) {
        cudaStream_t s = new_stream();
        ncclComm_t c = new_comm(rank, 2, id);
        int* x = device(std::vector<int>{1});
        cudaGraph_t graph = nullptr;
        cudaGraphExec_t exec = nullptr;
        OK(cudaStreamBeginCapture(s, THREAD));
        for (int i = 0; i < 2; i++) SETTLED(c, ncclAllReduce(x, x, 1, ncclInt32, ncclSum, c, s));
        OK(cudaStreamEndCapture(s, &graph)); OK(cudaGraphInstantiate(&exec, graph));
        for (int i = 0; i < 3; i++) OK(cudaGraphLaunch(exec, s));
        SETTLED(c, ncclAllReduce(x, x, 1, ncclInt32, ncclSum, c, s));
        EXPECT_EQ(host(x, 1, s)[0], 128);
        // while a graph could still be launched the communicator does not go
        ncclResult_t r = ncclCommFinalize(c);
        for (int i = 0; i < 1000; i++) NCCL_OK(ncclCommGetAsyncError(c, &r));
        EXPECT_EQ((int)r, (int)ncclInProgress);
        NCCL_REFUSED(ncclCommDestroy(c), ARGUMENT);
        OK(cudaGraphDestroy(graph)); OK(cudaGraphExecDestroy(exec));
        SETTLED(c, r);
        NCCL_OK(ncclCommDestroy(c));
    });
}

// ---- sums ------------------------------------------------------------------------------------------------------------------------
// As NCCL's: right to rounding, alike on all ranks, in an order that nobody knows.
TEST(nccl_sums_have_any_order) {
    const size_t n = 300;
    const auto value = [](int rank, size_t i) { return (float)std::sin((double)(rank * 1000) + (double)i) * (float)(1 << (i % 12)); };
    float* results = (float*)mmap(nullptr, 16 * n * sizeof(float), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int seed = 0; seed < 4; seed++) {
        emu::set_seed((uint64_t)seed);
        well(4, [&, seed](int rank, ncclUniqueId id) {
            cudaStream_t s = new_stream();
            ncclComm_t c = new_comm(rank, 4, id);
            std::vector<float> mine(n);
            for (size_t i = 0; i < n; i++) mine[i] = value(rank, i);
            float* x = device(mine);
            SETTLED(c, ncclAllReduce(x, x, n, ncclFloat32, ncclSum, c, s));
            const std::vector<float> sum = host(x, n, s);
            memcpy(results + (size_t)(seed * 4 + rank) * n, sum.data(), n * sizeof(float));
            destroy(c);
        });
    }
    int orders = 0;
    for (int seed = 0; seed < 4; seed++) {
        for (int rank = 1; rank < 4; rank++) EXPECT(!memcmp(results + (size_t)(seed * 4 + rank) * n, results + (size_t)(seed * 4) * n, n * sizeof(float)));
        orders += seed && memcmp(results + (size_t)(seed * 4) * n, results, n * sizeof(float));
        for (size_t i = 0; i < n; i++) {
            double sum = 0, magnitude = 0;
            for (int r = 0; r < 4; r++) sum += (double)value(r, i), magnitude += std::fabs((double)value(r, i));
            EXPECT(std::fabs((double)results[(size_t)(seed * 4) * n + i] - sum) <= 3 * 0x1p-24 * magnitude);  // three additions
        }
    }
    EXPECT(orders >= 2);
    munmap(results, 16 * n * sizeof(float));
}

// ---- mistakes that the library does not find -------------------------------------------------------------------------------------------
TEST(nccl_mismatches_are_found) {
    const auto both = [](const char* text, std::function<void(int, ncclComm_t, char*, cudaStream_t)> call) {
        found(text, [=](int rank, ncclUniqueId id) {
            cudaStream_t s = new_stream();
            ncclComm_t c = new_comm(rank, 2, id);
            char* x = device(std::vector<char>(64, 1));
            call(rank, c, x, s);
            EXPECT_EQ((int)comes_to(c), (int)USAGE);  // on both
            EXPECT(!strcmp(ncclGetLastError(c), c->area().why));
        });
    };
    both("ncclAllGather of 8 ncclInt8", [](int rank, ncclComm_t c, char* x, cudaStream_t s) { settle(c, ncclAllGather(x, x + 32, rank ? 8 : 4, ncclInt8, c, s)); });
    both("calls ncclRecv of 8 ncclInt8 where rank 0 calls ncclSend of 4 ncclInt8", [](int rank, ncclComm_t c, char* x, cudaStream_t s) {
        settle(c, rank ? ncclRecv(x, 8, ncclInt8, 0, c, s) : ncclSend(x, 4, ncclInt8, 1, c, s)); });
    both("calls ncclRecv of 4 ncclUint8 where rank 0 calls ncclSend of 4 ncclInt8", [](int rank, ncclComm_t c, char* x, cudaStream_t s) {
        settle(c, rank ? ncclRecv(x, 4, ncclUint8, 0, c, s) : ncclSend(x, 4, ncclInt8, 1, c, s)); });
    both("another root", [](int rank, ncclComm_t c, char* x, cudaStream_t s) { settle(c, ncclBroadcast(x, x, 4, ncclInt8, rank, c, s)); });
    both("another operator", [](int rank, ncclComm_t c, char* x, cudaStream_t s) { settle(c, ncclAllReduce(x, x, 4, ncclInt8, rank ? ncclSum : ncclMax, c, s)); });
    both("where rank", [](int rank, ncclComm_t c, char* x, cudaStream_t s) {  // in another order
        for (int i = 0; i < 2; i++) settle(c, i == rank ? ncclAllGather(x, x + 32, 4, ncclInt8, c, s) : ncclAllReduce(x + 16, x + 16, 4, ncclInt8, ncclSum, c, s)); });
    // other worlds
    const Ranks all = ranks(2, [](int rank, ncclUniqueId id) {
        ncclComm_t c = nullptr;
        ncclConfig_t k = not_blocking();
        ncclCommInitRankConfig(&c, 2 + rank, id, rank, &k);
        _exit((int)comes_to(c));
    });
    EXPECT(all.codes[0] == (int)ncclInternalError && all.codes[1] == (int)ncclInternalError);
}
__global__ void spoil(char* x) { *x = 9; }
// While an operation is under way, others write what it sends or receives, or read what has not come.
TEST(nccl_buffers_are_in_use) {
    const auto beside = [](int which) {
        return [which](int rank, ncclUniqueId id) {
            cudaStream_t s = new_stream(), other = new_stream();
            ncclComm_t c = new_comm(rank, 2, id);
            char *x = device(std::vector<char>(50000, 1)), *y = device<char>(50000);
            SETTLED(c, rank ? ncclRecv(y, 50000, ncclInt8, 0, c, s) : ncclSend(x, 50000, ncclInt8, 1, c, s));
            if (rank == which) OK(run(spoil, 1, 1, 0, other, (rank ? y : x) + 40000));  // no event between
            OK(cudaStreamSynchronize(s));
            OK(cudaDeviceSynchronize());
        };
    };
    found("a buffer was written while it was being sent", beside(0), false);
    found("a buffer was written by others while it was being received", beside(1), false);
    found("its memory was freed before", [](int rank, ncclUniqueId id) {
        cudaStream_t s = new_stream();
        ncclComm_t c = new_comm(rank, 2, id);
        char *x = device(std::vector<char>(64, 1)), *y = device<char>(64);
        cudaGraphExec_t exec = executable(s, [&] { SETTLED(c, rank ? ncclRecv(y, 64, ncclInt8, 0, c, s) : ncclSend(x, 64, ncclInt8, 1, c, s)); });
        OK(cudaFree(rank ? y : x));
        OK(cudaGraphLaunch(exec, s));
        cudaStreamSynchronize(s);
        _exit(1);
    });
    // what was there before is gone when the operation begins
    well(2, [](int rank, ncclUniqueId id) {
        cudaStream_t s = new_stream();
        ncclComm_t c = new_comm(rank, 2, id);
        char *x = device(std::vector<char>(50000, 1)), *y = device(std::vector<char>(50000, 2));
        if (rank) {
            SETTLED(c, ncclRecv(y, 50000, ncclInt8, 0, c, s));
            while (!c->on_device) cudaStreamQuery(s);
            EXPECT(y[49999] != 2);
        } else SETTLED(c, ncclSend(x, 50000, ncclInt8, 1, c, s));
        OK(cudaStreamSynchronize(s));
        if (rank) EXPECT(y[49999] == 1);
        destroy(c);
    });
}

// ---- deaths, errors, hangs ----------------------------------------------------------------------------------------------------------------
TEST(nccl_breaks_on_request) {
    const auto is = [](const char* variable, const char* value, const char* notice, std::vector<int> codes) {
        const Ranks all = ranks(2, [&](int rank, ncclUniqueId id) {
            setenv(variable, value, 1), setenv("EMU_NCCL_NOTICE", notice, 1);
            cudaStream_t s = new_stream();
            ncclComm_t c = new_comm(rank, 2, id);
            char* x = device(std::vector<char>(64, 1));
            for (int i = 0; i < 3; i++) settle(c, ncclAllReduce(x, x, 64, ncclInt8, ncclSum, c, s));
            ncclResult_t r = ncclSuccess;
            const int patience = codes[(size_t)rank] == 60 ? 500 : 15000;  // for what never comes; for what comes
            for (int ms = 0; ms < patience && r == ncclSuccess && cudaStreamQuery(s) != cudaSuccess; ms++) usleep(1000), ncclCommGetAsyncError(c, &r);
            const bool done = cudaStreamQuery(s) == cudaSuccess;
            NCCL_OK(ncclCommAbort(c));
            OK(cudaStreamSynchronize(s));  // comes back now
            _exit(done ? 50 : 60 + (int)r);
        }, 20, codes[1] == 137 ? 1 : -1);
        if (all.codes != codes) FAIL("expected %d %d: %s", codes[0], codes[1], said(all).c_str());
    };
    is("EMU_NCCL_NONE", "", "0", {50, 50});
    is("EMU_NCCL_DIE", "1:2", "0", {60, 137});
    is("EMU_NCCL_DIE", "1:2", "1", {60 + ncclRemoteError, 137});
    is("EMU_NCCL_STOP", "1:3", "1", {60, 137});
    is("EMU_NCCL_HANG", "0:1", "1", {60, 60});
    is("EMU_NCCL_ERROR", "0:3", "0", {60 + ncclSystemError, 60});
    is("EMU_NCCL_DELAY_SEED", "7", "0", {50, 50});
}
// An operation of what was aborted is an error, also in a graph.
TEST(nccl_aborted_is_gone) {
    expect_found("an aborted communicator", "destroyed or aborted", [] {
        cudaStream_t s = new_stream();
        ncclComm_t c = alone();
        int* x = device(std::vector<int>{1});
        cudaGraphExec_t exec = executable(s, [&] { SETTLED(c, ncclAllReduce(x, x, 1, ncclInt32, ncclSum, c, s)); });
        NCCL_OK(ncclCommAbort(c));
        OK(cudaGraphLaunch(exec, s));
        cudaStreamSynchronize(s);
    });
}
