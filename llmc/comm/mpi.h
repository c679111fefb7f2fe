// mpi.h: ranks on one machine or many, started by mpirun or srun, that send each other messages by MPI (MPI standard 3.1). Everything is a non-blocking
// message from one rank to another, even where MPI has a collective: so that, when one does not come, it is known whose. But for MPI's own sums.
#pragma once
#include <mpi.h>
#include <time.h>
#include <algorithm>
#include <climits>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>
#include "failure.h"
#include "launcher.h"
#include "start_deadline.h"
#include "transport.h"

namespace mpi_detail {
constexpr size_t MOST = 1 << 30;  // bytes of a message: MPI counts in int
inline std::string error_text(int error) {
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(error, text, &length);
    for (char* c = text; *c; c++) if (*c == '\n') *c = ' ';
    return text;
}
}  // namespace mpi_detail

class MpiTransport : public Transport {
    static constexpr int ALL = -1;
    static constexpr int ROLL_CALL = 32767;           // a tag: MPI promises as many
    static constexpr double ANSWERS = 1.5;            // seconds that a roll call takes: others' deadlines may end a little later
    struct Pending { int peer; size_t bytes; bool receives; };  // peer: or ALL
    int rank = 0, world = 1;
    std::vector<MPI_Request> requests;
    std::vector<Pending> pending;

    void check(int error, const char* what) const {
        if (error != MPI_SUCCESS) comm_failed("%s: %s", what, mpi_detail::error_text(error).c_str());
    }
    void add(const Message& m, bool receives) {
        const int tag = (int)(flight_recorder().now().sequence % ROLL_CALL);  // an operation out of order finds no partner
        for (size_t at = 0; at < m.bytes; at += mpi_detail::MOST) {
            const size_t n = std::min(mpi_detail::MOST, m.bytes - at);
            requests.emplace_back();
            pending.push_back({m.peer, n, receives});
            char* data = (char*)m.data + at;
            if (receives) check(MPI_Irecv(data, (int)n, MPI_BYTE, m.peer, tag, MPI_COMM_WORLD, &requests.back()), "MPI_Irecv");
            else check(MPI_Isend(data, (int)n, MPI_BYTE, m.peer, tag, MPI_COMM_WORLD, &requests.back()), "MPI_Isend");
        }
    }
    void begin_sum() { requests.emplace_back(), pending.push_back({ALL, 0, false}); }
    static int count_of(size_t n) {
        CHECK(n <= INT_MAX, "MPI counts %zu elements in an int", n);
        return (int)n;
    }
    // Until all of them are done: awake for a while, then asleep in between, as MPI itself would spin on a core that others need.
    void complete() {
        double waited = 0, last = flight_recorder().seconds();
        std::vector<MPI_Status> statuses(requests.size());
        for (int look = 0;; look++) {
            int done = 0;
            const int error = MPI_Testall((int)requests.size(), requests.data(), &done, statuses.data());
            for (size_t i = 0; error == MPI_ERR_IN_STATUS && i < requests.size(); i++)
                if (const int e = statuses[i].MPI_ERROR; e != MPI_SUCCESS && e != MPI_ERR_PENDING)
                    pending[i].peer == ALL ? comm_failed("the sum over the ranks failed: %s", mpi_detail::error_text(e).c_str()) : comm_failed("%s rank %d failed: %s", pending[i].receives ? "receiving from" : "sending to", pending[i].peer, mpi_detail::error_text(e).c_str());
            check(error, "MPI_Testall");
            if (done) break;
            if (look < 1000) continue;
            const timespec nap{.tv_sec = 0, .tv_nsec = look < 20000 ? 20'000 : 500'000};
            nanosleep(&nap, nullptr);
            const double now = flight_recorder().seconds();
            const double gap = now - std::exchange(last, now);
            waited = gap > flight_recorder().deadline / 2 ? 0 : waited + gap;
            if (waited < flight_recorder().deadline / 10) end_if_called();  // not once: MPI comes to the call behind what else has arrived
            if (waited > flight_recorder().deadline) fail_late();
        }
        for (size_t i = 0; i < requests.size(); i++) {
            int n = 0;
            if (!pending[i].receives) continue;
            MPI_Get_count(&statuses[i], MPI_BYTE, &n);
            if ((size_t)n != pending[i].bytes) comm_failed("rank %d sends %d bytes, rank %d expects %zu: they do not make the same run", pending[i].peer, n, rank, pending[i].bytes);
        }
        requests.clear(), pending.clear();
    }
    // Who waits longer than the deadline says so to all others. Those that do not say it are the culprits, or at something else.
    const std::vector<char>& roll_call() const {
        static std::vector<char> here, there;  // what is not done in time stays open until the process ends
        static std::vector<MPI_Request> calls;
        here.resize((size_t)world), there.assign((size_t)world, 1), calls.reserve(2 * (size_t)world);
        for (int r = 0; r < world; r++) {
            if (r == rank) continue;
            calls.resize(calls.size() + 2);
            MPI_Irecv(&here[(size_t)r], 1, MPI_CHAR, r, ROLL_CALL, MPI_COMM_WORLD, &calls[calls.size() - 2]);
            MPI_Isend(&there[(size_t)r], 1, MPI_CHAR, r, ROLL_CALL, MPI_COMM_WORLD, &calls.back());
        }
        const double start = flight_recorder().seconds();
        for (int done = 0; !done && flight_recorder().seconds() - start < ANSWERS;) {
            const timespec nap{.tv_sec = 0, .tv_nsec = 5'000'000};
            nanosleep(&nap, nullptr);
            if (MPI_Testall((int)calls.size(), calls.data(), &done, MPI_STATUSES_IGNORE) != MPI_SUCCESS) break;
        }
        here[(size_t)rank] = 1;
        return here;
    }
    // Who finds, as it begins to wait, that others have waited too long, is the one that they have named, and accuses nobody: it was stopped itself, and goes on
    // as mpirun ends all.
    void end_if_called() const {
        int called = 0;
        MPI_Iprobe(MPI_ANY_SOURCE, ROLL_CALL, MPI_COMM_WORLD, &called, MPI_STATUS_IGNORE);
        if (called) (void)flight_recorder().save(), end_silently(EXIT_COMM);
    }
    // One line for all that wait: the first of them speaks.
    [[noreturn]] void fail_late() {
        const std::vector<char>& here = roll_call();
        if (std::find(here.begin(), here.end(), 1) - here.begin() < rank) (void)flight_recorder().save(), end_silently(EXIT_COMM);
        std::string silent;
        for (int r = 0; r < world; r++) if (!here[(size_t)r]) silent += (silent.empty() ? " " : ", ") + std::to_string(r);
        if (!silent.empty()) comm_failed("nothing has come within %.4g s from rank%s", flight_recorder().deadline, silent.c_str());
        if (pending[0].peer == ALL) comm_failed("the sum over the ranks is not there within %.4g s: all wait for one another", flight_recorder().deadline);
        const auto late = [&](bool receives) {
            std::string ranks;
            for (size_t i = 0; i < requests.size(); i++) {
                int done = 0;
                MPI_Status status;
                const std::string name = " " + std::to_string(pending[i].peer) + ",";
                if (pending[i].receives == receives && MPI_Request_get_status(requests[i], &done, &status) == MPI_SUCCESS && !done && ranks.find(name) == ranks.npos) ranks += name;
            }
            return ranks.substr(0, ranks.size() - !ranks.empty());
        };
        if (const std::string ranks = late(true); !ranks.empty()) comm_failed("nothing has come within %.4g s from rank%s, which waits too: for another operation?", flight_recorder().deadline, ranks.c_str());
        comm_failed("what this rank sends is not taken within %.4g s by rank%s, which waits too: for another operation?", flight_recorder().deadline, late(false).c_str());
    }

public:
    // MPI is started here; the launcher's environment has told rank and world already, and MPI must say the same.
    explicit MpiTransport(const Place& place) {
        int given = 0;
        refuse_srun_without_pmi(place);
        const StartDeadline deadline("MPI");
        if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given) != MPI_SUCCESS) die("MPI_Init_thread failed");
        MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
        MPI_Comm_rank(MPI_COMM_WORLD, &rank), MPI_Comm_size(MPI_COMM_WORLD, &world);
        refuse_other_world(place, rank, world);
    }

    void all_gather_host(void* all, size_t bytes) override {
        for (int r = 0; r < world; r++) {
            if (r == rank) continue;
            add({r, (char*)all + (size_t)r * bytes, bytes}, true);
            add({r, (char*)all + (size_t)rank * bytes, bytes}, false);
        }
        complete();
    }
    void exchange(const std::vector<Message>& sends, const std::vector<Message>& receives, stream_t) override {
        for (const Message& m : receives) add(m, true);
        for (const Message& m : sends) add(m, false);
        complete();
    }
    void all_gather(void* all, size_t bytes, stream_t) override { all_gather_host(all, bytes); }
    bool adds() const override { return true; }
    void reduce_scatter(float* all, size_t n, size_t rest, stream_t) override {
        std::vector<int> counts((size_t)world, count_of(n));
        counts.back() = count_of(n + rest);
        std::vector<float> mine((size_t)counts[(size_t)rank]);
        begin_sum();
        check(MPI_Ireduce_scatter(all, mine.data(), counts.data(), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, &requests.back()), "MPI_Ireduce_scatter");
        complete();
        std::copy(mine.begin(), mine.end(), all + (size_t)rank * n);
    }
    void all_reduce(float* all, size_t n, stream_t) override {
        begin_sum();
        check(MPI_Iallreduce(MPI_IN_PLACE, all, count_of(n), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, &requests.back()), "MPI_Iallreduce");
        complete();
    }
    void leave() override {
        flight_recorder().begin("leave", 0);
        std::vector<char> none((size_t)world);
        all_gather_host(none.data(), 1);
        MPI_Finalize();
        flight_recorder().end();
    }
};

inline std::shared_ptr<Transport> open_mpi(const Place& place) { return std::make_shared<MpiTransport>(place); }

// Rank 0's bytes, on all, at most 1 MB. MPI is there for this alone, until finalize_mpi(): mpirun takes a process that ends without for one that failed.
inline std::string broadcast_by_mpi(const Place& place, const std::string& bytes) {
    int given = 0, rank = 0, world = 1, n = (int)bytes.size();
    refuse_srun_without_pmi(place);
    const StartDeadline deadline("--init mpi");
    if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given) != MPI_SUCCESS) die("MPI_Init_thread failed");
    MPI_Comm_rank(MPI_COMM_WORLD, &rank), MPI_Comm_size(MPI_COMM_WORLD, &world);
    refuse_other_world(place, rank, world);
    MPI_Bcast(&n, 1, MPI_INT, 0, MPI_COMM_WORLD);
    std::string all = bytes;
    all.resize((size_t)n);
    MPI_Bcast(all.data(), n, MPI_BYTE, 0, MPI_COMM_WORLD);
    return all;
}
inline void finalize_mpi() { MPI_Finalize(); }
