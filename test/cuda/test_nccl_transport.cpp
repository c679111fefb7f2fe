// The ranks' bytes by NCCL: in the emulator by its stand-in, on GPUs by the library, as many of them as there are.
#include <fstream>
#include "nccl_ranks.h"

namespace {
#define NEEDS_GPUS(n) do { if (!NCCL_HERE) SKIP("built without NCCL"); if (!has_gpus(n)) SKIP("this needs %d GPUs", n); } while (0)
const bool SLOW = strstr(BUILD, "asan") || strstr(BUILD, "watch");
std::vector<int> worlds(std::vector<int> all) {
    std::erase_if(all, [](int world) { return !has_gpus(world) || (SLOW && world > 3); });
    return all;
}
std::string seed(int n) { return "EMU_SEED=" + std::to_string(n); }

// What rank `from` sends to rank `to` as its k-th message in a round, byte i
unsigned char byte_of(int from, int to, int k, int round, size_t i) { return (unsigned char)(from * 71 + to * 31 + k * 7 + round * 3 + i * 13 + (i >> 8)); }
// Odd sizes; none for some pairs; both ends know it
size_t size_of(int from, int to, int k) {
    const size_t sizes[] = {1, 0, 17, 4099, 33333, 255};
    return sizes[(size_t)(from + 2 * to + 3 * k) % std::size(sizes)];
}
// Two bytes a thread, at an even address: the watched build takes neighbours in such a pair for one.
__global__ void fill_kernel(unsigned char* x, size_t n, int from, int to, int k, int round) {
    pdl_wait();
    const size_t odd = (size_t)x % 2, pair = 2 * thread_index();
    for (size_t at = pair; at < pair + 2; at++)
        if (at >= odd && at - odd < n) x[at - odd] = (unsigned char)(from * 71 + to * 31 + k * 7 + round * 3 + (at - odd) * 13 + ((at - odd) >> 8));
}
void fill(unsigned char* x, size_t n, int from, int to, int k, int round, stream_t stream) { launch(fill_kernel, over(n ? n / 2 + 1 : 0, 128), stream, x, n, from, to, k, round); }

// All messages of a rank, each in an allocation of its own.
struct Mail {
    static constexpr int MESSAGES = 2;
    struct Letter { int peer, k; std::unique_ptr<OnDevice<unsigned char>> data; };
    std::vector<Letter> out, in;
    const int rank;
    explicit Mail(const Comm& comm) : rank(comm.rank) {
        for (int peer = 0; peer < comm.world; peer++)
            for (int k = 0; k < MESSAGES && peer != rank; k++) {
                out.push_back({peer, k, std::make_unique<OnDevice<unsigned char>>(size_of(rank, peer, k))});
                in.push_back({peer, k, std::make_unique<OnDevice<unsigned char>>(size_of(peer, rank, k))});
            }
    }
    void write(int round, stream_t stream) {
        for (Letter& l : out) fill(l.data->data(), l.data->size(), rank, l.peer, l.k, round, stream);
    }
    void exchange(const Comm& comm, stream_t stream) {
        std::vector<Message> sends, receives;
        for (Letter& l : out) sends.push_back({l.peer, l.data->data(), l.data->size()});
        for (Letter& l : in) receives.push_back({l.peer, l.data->data(), l.data->size()});
        comm.exchange(sends, receives, stream);
    }
    void expect(int round) {
        for (Letter& l : in) {
            const std::vector<unsigned char> got = l.data->values();
            for (size_t i = 0; i < got.size(); i++)
                if (got[i] != byte_of(l.peer, rank, l.k, round, i)) { FAIL("rank %d from %d, message %d, round %d: byte %zu of %zu", rank, l.peer, l.k, round, i, got.size()); return; }
        }
    }
};
void expect_gathered(OnDevice<unsigned char>& all, const Comm& comm, size_t n, int round) {
    const std::vector<unsigned char> got = all.values();
    for (int r = 0; r < comm.world; r++)
        for (size_t i = 0; i < n; i++)
            if (got[(size_t)r * n + i] != byte_of(r, 0, 0, round, i)) { FAIL("rank %d: byte %zu of rank %d's", comm.rank, i, r); return; }
}
void expect_values(const Comm& comm, int round) {
    struct Value { int rank, round; char more[5001]; };  // more than one piece
    std::vector<Value> all((size_t)comm.world);
    memset(&all[(size_t)comm.rank], comm.rank + round, sizeof(Value));
    all[(size_t)comm.rank].rank = comm.rank, all[(size_t)comm.rank].round = round;
    comm.all_gather(all);
    for (int r = 0; r < comm.world; r++) {
        const Value& v = all[(size_t)r];
        if (v.rank != r || v.round != round || v.more[0] != (char)(r + round) || v.more[5000] != (char)(r + round)) FAIL("rank %d: value of rank %d, round %d", comm.rank, r, round);
    }
}
}  // namespace

TEST(exchange) {
    NEEDS_GPUS(1);
    for (int world : worlds({1, 2, 3, 4, 8}))
        for (int s = 1; s <= (world > 4 ? 1 : 3); s++)
            expect_well(on_ranks({.world = world, .environment = {seed(s), "EMU_NCCL_DELAY_SEED=" + std::to_string(s)}}, [](Comm& comm) {
                stream_t stream = open_stream({});
                Mail mail(comm);
                for (int round = 0; round < 3; round++) {  // buffers are used again in the order of the stream
                    mail.write(round, stream);
                    mail.exchange(comm, stream);
                    synchronize(stream);
                    mail.expect(round);
                }
                comm.exchange({}, {}, stream);
            }));
}

TEST(all_gather) {
    NEEDS_GPUS(1);
    for (int world : worlds({1, 2, 3, 4, 8}))
        for (size_t n : {(size_t)1, (size_t)40001, (size_t)0})
            expect_well(on_ranks({.world = world, .environment = {seed(4)}}, [n](Comm& comm) {
                stream_t stream = open_stream({});
                OnDevice<unsigned char> all(n * (size_t)comm.world);
                for (int round = 0; round < 2; round++) {
                    fill(all.data() + (size_t)comm.rank * n, n, comm.rank, 0, 0, round, stream);
                    comm.all_gather(all.data(), n, stream);
                    synchronize(stream);
                    expect_gathered(all, comm, n, round);
                }
            }));
}

namespace {
__global__ void fill_floats_kernel(float* x, size_t n, int rank) {
    pdl_wait();
    const size_t i = thread_index();
    if (i < n) x[i] = 1.0f / (float)(1 + (i * 7 + (size_t)rank * 131) % 1009);
}
// Whether it is the sum of what the ranks have there, by so many additions in any order, each rounded.
bool is_sum(float sum, size_t i, int world) {
    double exact = 0;
    for (int r = 0; r < world; r++) exact += 1.0f / (float)(1 + (i * 7 + (size_t)r * 131) % 1009);
    return std::fabs(sum - exact) <= (world - 1) * exact * 0x1p-24;
}
}  // namespace

// The library's own sums: of each rank's part, and the last one's is longer; or of all, the same bits on all.
TEST(sums_of_the_library) {
    NEEDS_GPUS(1);
    struct Sizes { size_t n, rest; };
    for (int world : worlds({1, 2, 3, 4, 8}))
        for (const Sizes sizes : std::vector<Sizes>{{192, 64}, {4096, 0}, {0, 64}})
            expect_well(on_ranks({.world = world, .environment = {seed(5), "EMU_NCCL_DELAY_SEED=5"}}, [sizes](Comm& comm) {
                stream_t stream = open_stream({});
                const size_t n = sizes.n, all_n = n * (size_t)comm.world + sizes.rest, first = (size_t)comm.rank * n, end = first + n + (comm.rank + 1 == comm.world) * sizes.rest;
                OnDevice<float> all(all_n);
                EXPECT(comm.transport->adds());
                for (int round = 0; round < 2; round++) {  // memory is used again in the order of the stream
                    launch(fill_floats_kernel, over(all_n, 128), stream, all.data(), all_n, comm.rank);
                    comm.reduce_scatter(all.data(), n, sizes.rest, stream);
                    synchronize(stream);
                    const std::vector<float> got = all.values();
                    for (size_t i = first; i < end; i++) if (!is_sum(got[i], i, comm.world)) { FAIL("rank %d, scattered, element %zu of %zu", comm.rank, i, all_n); break; }
                    launch(fill_floats_kernel, over(all_n, 128), stream, all.data(), all_n, comm.rank);
                    comm.all_reduce(all.data(), all_n, stream);
                    synchronize(stream);
                    const std::vector<float> sums = all.values();
                    for (size_t i = 0; i < all_n; i++) if (!is_sum(sums[i], i, comm.world)) { FAIL("rank %d, element %zu of %zu", comm.rank, i, all_n); break; }
                    const std::string bits((const char*)sums.data(), all_n * sizeof(float));
                    EXPECT(comm.broadcast(bits) == bits);
                }
            }));
}

// An event is behind the operation that was asked for before it was recorded.
// Sums in memory that all ranks have registered, or could not; and what is said of it. On one GPU a world of one: the library registers all the same.
TEST(sums_in_windows) {
    NEEDS_GPUS(1);
    struct Case { const char *environment, *says; int world; bool here, one_machine, same_places; };
    for (const Case& k : std::vector<Case>{{"EMU_SEED=1", "MiB of gradients and sums, registered by all ranks (NCCL ", 1, true, true, true}, {"EMU_NCCL_DELAY_SEED=2", "registered by all ranks", 2, true, true, true},
             {"EMU_SEED=3", "registered by all ranks", 4, true, true, true}, {"EMU_NCCL_WINDOWS=0", "none: NCCL 2.28.9 gives none here", 2, ON_CPU, true, true},
             {"EMU_NCCL_VERSION=22803", "none: NCCL 2.28.3 is loaded, must be 2.28.7 or newer", 2, ON_CPU, true, true}, {"EMU_SEED=4", "none: they are for ranks of one machine", 2, true, false, true},
             {"EMU_SEED=5", "none: not all ranks have gradients and sums at the same places", 3, true, true, false}}) {
        if (!k.here || !has_gpus(k.world) || (SLOW && k.world > 2)) continue;
        expect_well(on_ranks({.world = k.world, .environment = {k.environment}}, [&](Comm& comm) {
            stream_t stream = open_stream({});
            const size_t n = 192, all_n = n * (size_t)comm.world + 64, bytes = (2 * all_n + 64) * sizeof(float);
            EXPECT(comm.windows().find("--reduce nccl") != std::string::npos);
            char* memory = (char*)comm.transport->memory_of_collectives(bytes, k.same_places || comm.rank != 1, k.one_machine || comm.rank != 1);
            float *scattered = (float*)memory, *all = scattered + all_n;
            if (comm.windows().find(k.says) == std::string::npos && (ON_CPU || comm.windows().find("none: NCCL ") != 0)) FAIL("expected '%s', said was '%s'", k.says, comm.windows().c_str());
            if (comm.rank == 0 && !ON_CPU) printf("        windows %s\n", comm.windows().c_str());
            std::vector<float> got(2 * all_n + 64);
            copy_to_host(got.data(), memory, bytes, stream);
            synchronize(stream);
            for (float x : got) if (x != 0) { FAIL("memory that is not zero"); break; }
            for (int round = 0; round < 2; round++) {
                for (float* x : {scattered, all}) launch(fill_floats_kernel, over(all_n, 128), stream, x, all_n, comm.rank);
                comm.transport->reduce_scatter(scattered, n, 64, stream);
                comm.transport->all_reduce(all, all_n, stream);
                char* gathered = (char*)(all + all_n);
                copy_on_device(gathered + 8 * comm.rank, scattered + n * (size_t)comm.rank, 8, stream);
                comm.transport->all_gather(gathered, 8, stream);
                copy_to_host(got.data(), memory, bytes, stream);
                synchronize(stream);
                for (size_t i = 0; i < n; i++) if (const size_t at = n * (size_t)comm.rank + i; !is_sum(got[at], at, comm.world)) { FAIL("rank %d, scattered, element %zu", comm.rank, i); break; }
                for (size_t i = 0; i < all_n; i++) if (!is_sum(got[all_n + i], i, comm.world)) { FAIL("rank %d, element %zu", comm.rank, i); break; }
                for (int r = 0; r < comm.world; r++) if (const size_t at = n * (size_t)r; !is_sum(got[2 * all_n + 2 * (size_t)r], at, comm.world)) FAIL("rank %d: gathered of rank %d", comm.rank, r);
            }
        }));
    }
}

TEST(events_are_behind) {
    NEEDS_GPUS(2);
    for (int s = 1; s <= 6; s++)
        expect_well(on_ranks({.environment = {seed(s)}}, [](Comm& comm) {
            stream_t stream = open_stream({}), other = open_stream({});
            event_t sent = make_event();
            OnDevice<unsigned char> x(3001), y(3001), copy(3001);
            for (int round = 0; round < 4; round++) {
                fill(x.data(), x.size(), comm.rank, 1 - comm.rank, 0, round, stream);
                comm.exchange({{1 - comm.rank, x.data(), x.size()}}, {{1 - comm.rank, y.data(), y.size()}}, stream);
                record(sent, stream);
                CUDA_CHECK(cudaStreamWaitEvent(other, sent, 0));
                copy_on_device(copy.data(), y.data(), y.size(), other);
                wait(sent);
                synchronize(other);
                const std::vector<unsigned char> got = copy.values();
                for (size_t i = 0; i < got.size(); i++) if (got[i] != byte_of(1 - comm.rank, comm.rank, 0, round, i)) { FAIL("round %d: byte %zu", round, i); break; }
            }
        }));
}

// Rank 1 takes part in the exchange only after all have agreed on a value: what agrees does not wait for what is under way.
TEST(values_beside_an_exchange) {
    NEEDS_GPUS(2);
    for (int world : worlds({2, 3, 4}))
        for (int s = 1; s <= 2; s++)
            expect_well(on_ranks({.world = world, .environment = {seed(s)}}, [](Comm& comm) {
                stream_t stream = open_stream({});
                OnDevice<unsigned char> x(100000);
                fill(x.data(), x.size(), 0, 0, 0, 0, stream);
                for (int round = 0; round < 3; round++) {
                    if (comm.rank == 0) comm.exchange({{1, x.data(), x.size()}}, {}, stream);
                    expect_values(comm, round);
                    if (comm.rank == 1) comm.exchange({}, {{0, x.data(), x.size()}}, stream);
                    EXPECT_EQ(comm.any(comm.rank == 1), true);
                    EXPECT_EQ(comm.any(false), false);
                }
                EXPECT_STR(comm.broadcast(comm.rank ? std::string() : std::string(3000, 'x')), std::string(3000, 'x'));
                synchronize(stream);
            }));
}

TEST(replay_in_a_graph) {
    NEEDS_GPUS(1);
    for (int world : worlds({1, 2, 3, 4}))
        for (int s = 1; s <= 2; s++)
            expect_well(on_ranks({.world = world, .environment = {seed(s), "EMU_NCCL_DELAY_SEED=" + std::to_string(s)}}, [](Comm& comm) {
                stream_t stream = open_stream({});
                Mail mail(comm);
                const size_t n = 777;
                OnDevice<unsigned char> all(n * (size_t)comm.world);
                graph_t graph = nullptr;
                for (int round = 0; round < 4; round++) {
                    mail.write(round, stream);  // not in the graph: it differs
                    fill(all.data() + (size_t)comm.rank * n, n, comm.rank, 0, 0, round, stream);
                    replay(graph, stream, [&] { mail.exchange(comm, stream); comm.all_gather(all.data(), n, stream); });
                    expect_values(comm, round);  // beside the graph
                    synchronize(stream);
                    mail.expect(round), expect_gathered(all, comm, n, round);
                }
                destroy(graph);
            }));
}

// ---- when something breaks -----------------------------------------------------------------------------------------------
namespace {
// More steps than anything takes, of all that the ranks do together; at(step) may break one.
void steps(Comm& comm, const std::function<void(int)>& at) {
    stream_t stream = open_stream({});
    event_t done = make_event();
    Mail mail(comm);
    OnDevice<unsigned char> all(99 * (size_t)comm.world);
    for (int step = 0; step < 2000; step++) {
        flight_recorder().step = step;
        at(step);
        mail.write(step, stream);
        fill(all.data() + (size_t)comm.rank * 99, 99, comm.rank, 0, 0, step, stream);
        mail.exchange(comm, stream);
        comm.all_gather(all.data(), 99, stream);
        record(done, stream);
        wait(done);
        comm.barrier();
    }
}
void nothing(int) {}
}  // namespace

TEST(death_of_a_rank) {
    NEEDS_GPUS(2);
    for (int world : worlds({2, 3})) {
        const RankOptions options{.world = world, .deadline = 2};
        expect_ended(on_ranks(options, [](Comm& comm) { steps(comm, [&](int step) { if (step == 3 && comm.rank == 1) kill(getpid(), SIGKILL); }); }), options, 1, {"with all ranks", "with rank 1", "with rank 0 or 1", "remote peer: rank"});
    }
}
// The culprit is stopped in the midst of something, or its GPU hangs.
TEST(stop_of_a_rank) {
    NEEDS_GPUS(2);
    for (int world : worlds({2, 3})) {
        const RankOptions options{.world = world, .deadline = 1.5, .stopped = 1};
        const std::vector<RankOutcome> ranks = on_ranks(options, [](Comm& comm) { steps(comm, [&](int step) { if (step == 2 && comm.rank == 1) raise(SIGSTOP); }); });
        expect_ended(ranks, options, 1, {"with all ranks", "with rank 1", "with rank 0 or 1"});
        if (!rank_variable()) EXPECT_EQ(ranks[1].code, 128 + SIGKILL);
    }
}
// An early end is no leaving.
TEST(early_exit_of_a_rank) {
    NEEDS_GPUS(2);
    const RankOptions options{.deadline = 1.5};
    expect_ended(on_ranks(options, [](Comm& comm) { steps(comm, [&](int step) { if (step == 2 && comm.rank == 1) _exit(0); }); }), options, 1, {"all_gather", "exchange"});
}
// TEST_BREAKS of them, 20 unless told: kinds in turn, at any operation (1 to 3 are those of the start), of any rank.
TEST(breaks_on_request) {
    HOST_ALONE();
    if (!ON_CPU) SKIP("the stand-in breaks on request, the library does not");
    const std::string late = "not there after 1.0 s", remote = "remote peer";
    struct Break { const char *variable, *more; bool ends, stops; std::vector<std::string> texts; };  // ends: the culprit does, with a line; stops: it is there to the end
    const Break breaks[] = {
        {"EMU_NCCL_DIE", "EMU_NCCL_NOTICE=1", false, false, {remote}},
        {"EMU_NCCL_DIE", "EMU_NCCL_NOTICE=0", false, false, {late}},
        {"EMU_NCCL_STOP", "EMU_NCCL_NOTICE=1", false, true, {late, remote}},
        {"EMU_NCCL_HANG", "EMU_NCCL_ABORT=none", true, false, {late, remote}},
        {"EMU_NCCL_ERROR", "EMU_NCCL_ABORT=none", true, false, {"an error on request", late, remote}},
        {"EMU_NCCL_HANG", "EMU_NCCL_ABORT=hang", true, false, {late, remote}},
    };
    const int n = getenv("TEST_BREAKS") ? atoi(getenv("TEST_BREAKS")) : SLOW ? 6 : 20;
    Random random(14);
    for (int i = 0; i < n; i++) {
        const Break& b = breaks[(size_t)i % std::size(breaks)];
        const int world = random.between(2, SLOW ? 2 : 4), culprit = random.between(0, world - 1), operation = i < 3 ? i + 1 : random.between(1, 30);
        const std::string what = format("%s=%d:%d", b.variable, culprit, operation);
        const RankOptions options{.world = world, .deadline = 1, .stopped = b.stops ? culprit : -1, .environment = {seed(i), what, b.more}};
        const std::vector<RankOutcome> ranks = on_ranks(options, [](Comm& comm) { steps(comm, nothing); });
        const int before = g_failures;
        expect_ended(ranks, options, b.ends ? -1 : culprit, b.texts);
        if (!strcmp(b.variable, "EMU_NCCL_ERROR") && !rank_variable() && ranks[(size_t)culprit].output.find("an error on request") == std::string::npos) FAIL("the rank with the error:%s", said(ranks).c_str());
        if (g_failures > before) FAIL("that was %s %s", what.c_str(), b.more);
    }
}
// Calls that do not fit each other: both ranks end, and say which.
TEST(mismatches) {
    HOST_ALONE();
    if (!ON_CPU) SKIP("the stand-in finds calls that do not fit; the library hangs, or takes them");
    using Body = void (*)(Comm&, OnDevice<unsigned char>&, stream_t);
    struct Case { const char* name; Body body; const char* text; };
    const Case cases[] = {
        {"sizes", [](Comm& comm, OnDevice<unsigned char>& x, stream_t stream) { if (comm.rank == 0) comm.exchange({{1, x.data(), 12}}, {}, stream); else comm.exchange({}, {{0, x.data(), 16}}, stream); },
         "rank 1 calls ncclRecv of 16 ncclUint8 where rank 0 calls ncclSend of 12 ncclUint8"},
        {"operations", [](Comm& comm, OnDevice<unsigned char>& x, stream_t stream) { if (comm.rank == 0) comm.all_gather(x.data(), 5, stream); else comm.exchange({}, {{0, x.data(), 5}}, stream); },
         "rank 1 calls ncclRecv of 5 ncclUint8 where rank 0 calls ncclAllGather of 5 ncclUint8"},
        {"values", [](Comm& comm, OnDevice<unsigned char>&, stream_t) { std::vector<char> one(2); std::vector<int> four(2); if (comm.rank) comm.all_gather(one); else comm.all_gather(four); }, "ncclAllGather of 4 ncclUint8"},
    };
    for (const Case& c : cases)
        for (bool hang : {false, true}) {
            const RankOptions options{.deadline = 1.5, .environment = {seed(2), hang ? "EMU_NCCL_MISMATCH=hang" : "EMU_NCCL_DELAY_SEED=1"}};
            expect_ended(on_ranks(options, [&](Comm& comm) {
                stream_t stream = open_stream({});
                OnDevice<unsigned char> x(64);
                zero(x.data(), 64, stream);
                c.body(comm, x, stream);
                synchronize(stream);
                comm.barrier();
            }), options, -1, {hang ? "not there after 1.5 s" : c.text});
        }
}
// A rank that never comes; one that does not destroy its graph; one that leaves while the others go on.
TEST(start_and_end_have_deadlines) {
    HOST_ALONE();
    NEEDS_GPUS(2);
    const RankOptions options{.deadline = 1.5};
    const std::vector<RankOutcome> ends = on_ranks(options, [](Comm& comm) { if (comm.rank == 1) steps(comm, nothing); });
    if (!rank_variable()) for (const RankOutcome& o : ends) if (o.code != EXIT_COMM || o.waited() > options.deadline + 4) FAIL("%s", said(ends).c_str());
    if (!ON_CPU) return;
    const RankOptions late{.deadline = 1.5, .stopped = 1, .never = 1};
    expect_ended(on_ranks(late, [](Comm&) {}), late, 1, {"start of NCCL, step -1: ncclCommInitRankConfig: not there after 1.5 s"});
    const RankOptions graphs{.deadline = 1.5, .environment = {seed(1)}};
    expect_ended(on_ranks(graphs, [](Comm& comm) {
        stream_t stream = open_stream({});
        OnDevice<unsigned char> x(64);
        zero(x.data(), 64, stream);
        graph_t graph = nullptr;
        replay(graph, stream, [&] { comm.all_gather(x.data(), 32, stream); });
        synchronize(stream);
    }), graphs, -1, {"end of NCCL, step -1: ncclCommFinalize: not there after 1.5 s"});
}
namespace {
__global__ void wait_kernel(int* flag) { while (!*(volatile int*)flag) {} }
}  // namespace
// The deadline of one rank alone: its GPU hangs.
TEST(deadline_alone) {
    NEEDS_GPUS(1);
    const RankOptions options{.world = 1, .deadline = 2, .environment = {"EMU_NCCL_HANG=0:3"}};
    const std::vector<RankOutcome> ranks = on_ranks(options, [](Comm& comm) {
        stream_t stream = open_stream({});
        OnDevice<char> x(64);
        zero(x.data(), 64, stream);
        if (!ON_CPU) launch(wait_kernel, Grid{1, 1}, stream, (int*)pinned_alloc(4));
        comm.transport->all_gather(x.data(), 64, stream);
        synchronize(stream);
    });
    if (!rank_variable() && (ranks[0].code != EXIT_COMM || ranks[0].waited() > options.deadline + 4 || ranks[0].output.find("not there after 2.0 s") == std::string::npos)) FAIL("%s", said(ranks).c_str());
}
TEST(the_flight_record) {
    NEEDS_GPUS(2);
    const std::string path = std::string(BUILD) + "/tmp/flight_record";
    if (!rank_variable()) unlink((path + "0").c_str());
    const RankOptions options{.deadline = 1.5};
    const std::vector<RankOutcome> ranks = on_ranks(options, [&](Comm& comm) {
        flight_recorder().path = path + std::to_string(comm.rank);
        steps(comm, [&](int step) { if (step == 60 && comm.rank == 1) _exit(0); });
    });
    expect_ended(ranks, options, 1, {"the last operations: " + path + "0"});
    if (rank_variable()) return;
    // the oldest of two that are open; one operation is the start
    if (ranks[0].output.find(format("operation %d, exchange of ", 1 + 60 * 3 + 1)) == std::string::npos) FAIL("%s", said(ranks).c_str());
    const std::string text = run_command("cat " + path + "0").output;
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 100);
    EXPECT(text.find("rank 0 step 60 operation ") != std::string::npos && text.find(" open\n") != std::string::npos);
}
TEST(versions) {
    if (!ON_CPU) SKIP("the stand-in has any version");
    const auto refused = [](std::vector<std::string> environment, const char* text) {
        const std::vector<RankOutcome> ranks = on_ranks({.deadline = 2, .environment = std::move(environment)}, [](Comm&) {});
        if (rank_variable()) return;
        if (ranks[0].code != EXIT_USAGE || ranks[0].output.find(text) == std::string::npos) FAIL("%s", said(ranks).c_str());
    };
    // as rank 1 waits for the id in vain
    if (rank_variable() && getenv("TEST_OLD") && atoi(rank_variable()) == 1) _exit(0);
    refused({"EMU_NCCL_VERSION=21705", "TEST_OLD=1"}, "NCCL 2.17.5 is loaded, must be 2.18.1 or newer");
    if (rank_variable() && getenv("TEST_OTHER") && atoi(rank_variable()) == 1) setenv("EMU_NCCL_VERSION", "21803", 1);
    refused({"TEST_OTHER=1"}, "NCCL 2.28.9 here, 2.18.3 on rank 1: all ranks must load the same");
    expect_well(on_ranks({.environment = {"EMU_NCCL_VERSION=21803"}}, [](Comm& comm) { expect_values(comm, 1); }));
}

// The id by MPI's broadcast, which has to be ended as well: mpirun calls it a failure where a rank that is done has not.
TEST(the_id_goes_by_mpi) {
    if (!ON_CPU || SLOW || rank_variable()) SKIP("with the stand-in alone, and once: the program is made here");
    if (run_command("mpirun --version && mpicxx --version").code) SKIP("no mpirun, or no mpicxx");
    const std::string folder = std::string(BUILD) + "/tmp/by_mpi";
    run_command("mkdir -p " + folder);
    std::ofstream(folder + "/rank.cpp") << "#include \"../../../../llmc/comm/open.h\"\n"
        "int main(int n, char**) {\n"
        "    const Comm comm = open_comm(find_place(-1, 0, 0), {.init = \"mpi\", .server = \"\", .folder = \"\"});\n"
        "    std::vector<int> all((size_t)comm.world);\n"
        "    all[(size_t)comm.rank] = comm.rank + 1, comm.all_gather(all);\n"
        "    printf(\"rank %d of %d: %d\\n\", comm.rank, comm.world, all[(size_t)comm.world - 1]);\n"
        "    if (n == 1) comm.leave();\n"
        "}\n";
    const Outcome made = run_command(format("mpicxx -std=c++20 -O0 -w -pthread -march=native -rdynamic -DLLMC_NCCL -DLLMC_MPI -Itest/emu -x c++ %s/rank.cpp -o %s/rank", folder.c_str(), folder.c_str()));
    if (made.code) { FAIL("%s", made.output.c_str()); return; }
    const std::string run = "env EMU_GPUS=2 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun --oversubscribe -np 2 " + folder + "/rank";
    const Outcome whole = run_command(run), early = run_command(run + " early");
    if (whole.code || whole.output.find("rank 1 of 2: 2\n") == std::string::npos || whole.output.find("rank 0 of 2: 2\n") == std::string::npos) FAIL("exit code %d: %s", whole.code, whole.output.c_str());
    EXPECT(early.code != 0);
    run_command("rm -r " + folder);
}
