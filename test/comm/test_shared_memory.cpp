// Ranks that share memory: every world's messages arrive, whatever their sizes, and what does not fit together is named.
#include "../layers.h"
#include "ranks_test.h"

namespace {
void all_must_be_well(const std::vector<Outcome>& outcomes) {
    for (size_t r = 0; r < outcomes.size(); r++) if (outcomes[r].code) FAIL("rank %zu: exit code %d: %s", r, outcomes[r].code, outcomes[r].output.c_str());
}
#define MUST(condition) do { if (!(condition)) die("line %d: %s", __LINE__, #condition); } while (0)
float value(int from, int to, size_t i) { return (float)(from * 1000 + to * 100) + (float)(i % 97); }
}  // namespace

TEST(shared_memory_values) {
    for (int world : {2, 3, 5})
        all_must_be_well(run_ranks(world, 30, [](const Comm& comm) {
            for (int turn = 0; turn < 50; turn++) {
                std::vector<double> all((size_t)comm.world, -1);
                all[(size_t)comm.rank] = 10 * comm.rank + turn;
                comm.all_gather(all);
                for (int r = 0; r < comm.world; r++) MUST(all[(size_t)r] == 10 * r + turn);
                MUST(comm.any(comm.rank == turn % comm.world) && !comm.any(false));
                MUST(comm.broadcast(comm.rank + 7) == 7);
            }
            MUST(comm.broadcast(comm.rank == 0 ? std::string(12345, 'x') + "end" : "other") == std::string(12345, 'x') + "end");
            std::vector<double> mine(3000);  // more than is given at a time
            for (size_t i = (size_t)comm.rank; i < mine.size(); i += (size_t)comm.world) mine[i] = (double)i + 1;
            comm.combine(mine);
            for (size_t i = 0; i < mine.size(); i++) MUST(mine[i] == (double)i + 1);
        }));
}

// Nothing, a few bytes, more than an outbox holds; two messages for one rank; each rank other sizes.
TEST(shared_memory_exchange) {
    for (int world : {2, 3, 4})
        all_must_be_well(run_ranks(world, 30, [](const Comm& comm) {
            const auto length = [](int from, int to, int turn) { return turn == 0 ? (size_t)0 : turn == 1 ? (size_t)(from + 2 * to + 1) : turn == 2 ? (size_t)(1'500'000 + from * 300'001) : (size_t)(from == 0); };
            for (int turn = 0; turn < 4; turn++) {
                std::vector<std::vector<float>> out((size_t)comm.world), in((size_t)comm.world);
                std::vector<Message> sends, receives;
                for (int peer = 0; peer < comm.world; peer++) {
                    if (peer == comm.rank) continue;
                    const size_t n = length(comm.rank, peer, turn), m = length(peer, comm.rank, turn);
                    for (size_t i = 0; i < n; i++) out[(size_t)peer].push_back(value(comm.rank, peer, i));
                    in[(size_t)peer].resize(m);
                    sends.push_back({peer, out[(size_t)peer].data(), n / 3 * 4}), sends.push_back({peer, out[(size_t)peer].data() + n / 3, (n - n / 3) * 4});
                    receives.push_back({peer, in[(size_t)peer].data(), m / 2 * 4}), receives.push_back({peer, in[(size_t)peer].data() + m / 2, (m - m / 2) * 4});
                }
                comm.exchange(sends, receives, stream_t{});
                for (int peer = 0; peer < comm.world; peer++)
                    for (size_t i = 0; i < in[(size_t)peer].size(); i++) MUST(in[(size_t)peer][i] == value(peer, comm.rank, i));
                std::vector<int> all((size_t)comm.world * 5, -1);
                for (int i = 0; i < 5; i++) all[(size_t)(comm.rank * 5 + i)] = comm.rank * 5 + i;
                comm.all_gather(all.data(), 5 * sizeof(int), stream_t{});
                for (int i = 0; i < comm.world * 5; i++) MUST(all[(size_t)i] == i);
            }
        }));
}

TEST(shared_memory_names_who_is_late) {
    const auto outcomes = run_ranks(3, 1.5, [](const Comm& comm) {
        flight_recorder().step = 7;
        if (comm.rank == 1) sleep(4);
        comm.barrier();
    });
    const std::string said = outcomes[0].output + outcomes[2].output;  // one of them has said it
    EXPECT(outcomes[0].code == EXIT_COMM && outcomes[2].code == EXIT_COMM && (outcomes[0].output.empty() || outcomes[2].output.empty()));
    EXPECT(said.find("rank 1 (process ") != std::string::npos && said.find("has not come within 1.5 s") != std::string::npos);
    if (said.find("(step 7, operation 2, all_gather of values, 1 bytes)") == std::string::npos) FAIL("said \"%s\"", said.c_str());
    EXPECT_EQ(outcomes[1].code, EXIT_COMM);  // the others are gone
}
// Who has waited too long speaks, and not one that came later: when its deadline is over a launcher has ended all.
TEST(shared_memory_names_who_never_comes) {
    const auto outcomes = run_ranks(3, 2, [](const Comm& comm) {
        if (comm.rank == 0) sleep(6);
        if (comm.rank == 1) usleep(1'500'000);
        comm.barrier();
    });
    EXPECT(outcomes[2].code == EXIT_COMM && outcomes[2].output.find("rank 0 (process ") != std::string::npos);
    EXPECT(outcomes[1].code == EXIT_COMM && outcomes[1].output.empty());
}

// Another operation, another size, one operation too few: each is found by both sides, not waited for.
TEST(shared_memory_names_what_does_not_fit) {
    const auto said = [](const std::vector<Outcome>& outcomes, const char* text) {
        for (const Outcome& o : outcomes) {
            EXPECT_EQ(o.code, EXIT_COMM);
            if (o.output.find(text) == std::string::npos || o.output.find('\n') != o.output.size() - 1) FAIL("said \"%s\", expected one line with \"%s\"", o.output.c_str(), text);
        }
    };
    said(run_ranks(2, 3, [](const Comm& comm) { if (comm.rank) comm.broadcast(1); else comm.broadcast(1.0); }), "values of 8");
    said(run_ranks(2, 3, [](const Comm& comm) {
        float x[4] = {};
        const int peer = 1 - comm.rank;
        comm.exchange({{peer, x, comm.rank ? 4u : 8u}}, {{peer, x + 2, 4}}, stream_t{});
        comm.barrier();
    }), "");
    said(run_ranks(2, 3, [](const Comm& comm) {
        float x[2] = {};
        if (comm.rank) comm.barrier();
        else comm.exchange({{1, x, 4}}, {{1, x + 1, 4}}, stream_t{});
    }), "they do not make the same run");
}

TEST(flight_recorder_keeps_the_last_hundred) {
    FlightRecorder recorder;
    for (int i = 1; i <= 250; i++) {
        recorder.step = i / 10;
        recorder.begin("exchange", (size_t)i);
        if (i < 250) recorder.end();
    }
    const std::string text = recorder.text();
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 100);
    EXPECT(text.starts_with("rank 0 step 15 operation 151 exchange bytes 151 began ") && text.ends_with(" open\n"));
    EXPECT(text.find("operation 250 exchange bytes 250") != text.npos && text.find("operation 150 ") == text.npos);
}

// Five medians of the last 32 steps, ten seconds at least.
TEST(step_deadline_follows_the_steps) {
    StepDeadline d(0), given(2.5);
    EXPECT_EQ(d.seconds(), 600.0);
    for (int i = 0; i < 3; i++) d.step_took(1);
    EXPECT_EQ(d.seconds(), 10.0);
    for (int i = 0; i < 40; i++) d.step_took(7), given.step_took(7);
    d.step_took(1000);
    EXPECT_EQ(d.seconds(), 35.0);
    EXPECT_EQ(given.seconds(), 2.5);
    EXPECT(d.between_steps() == 3600 && given.between_steps() == 25 && StepDeadline(1000).between_steps() == 10000);
}
