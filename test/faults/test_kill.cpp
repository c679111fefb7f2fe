// Kills: the shipped trainer is killed before each of its calls on files, half-way through each write, and at random moments; some are killed again when
// they are resumed, and again; some have two ranks, of which one is killed, or both at once. Resumed to the end, what is left is the undisturbed run's,
// bit for bit: weights, optimizer state, logs, metrics but for times.
//     KILLS=200 FROM=1000 build/tests kills      so many (make test-kill), from the 1000th: counts of several runs add up
//     KILL=17 build/tests kills                  that one alone
#include <signal.h>
#include "../layers.h"
#include "runs.h"
#include "tracer.h"

namespace {
std::string SCRATCH;

enum Kind { AT_CALL, HALF_WAY, AT_A_MOMENT, CHAIN, RANK_AT_CALL, RANKS_AT_A_MOMENT, KINDS };
const char* const NAMES[KINDS] = {"before a call", "half-way through a write", "at a random moment", "again and again", "two ranks, at a call", "two ranks, at a random moment"};

// Of a run that nothing befalls.
struct Undisturbed { int calls = 0; std::vector<int> writes; double seconds = 0; } g_alone, g_two;

Undisturbed count_calls(const std::string& out, int ranks) {
    Undisturbed run;
    Tracer tracer(SCRATCH);
    tracer.on_entry = [&](const Call& call, int n) { if (call.is(Does::WRITES) && call.bytes > 1) run.writes.push_back(n); return Order{}; };
    const Tracer::Ended ended = tracer.run(small_run(SCRATCH, out, ranks), SCRATCH + ".said");
    if (ended.code) FAIL("the undisturbed run ended with %d: %s", ended.code, ended.said.c_str());
    run.calls = tracer.calls;
    remove_tree(SCRATCH + "/" + out);
    const auto start = std::chrono::steady_clock::now();
    run_command(small_run(SCRATCH, out, ranks));
    run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return run;
}

// Returns whether it came to that; what was said is in `said`.
bool kill_at(const std::string& command, int call, bool half_way, bool all, std::string& said) {
    Tracer tracer(SCRATCH);
    bool came = false;
    tracer.on_entry = [&](const Call&, int n) {
        came |= n == call;
        return n == call ? Order{half_way ? Order::KILL_HALF_WAY : Order::KILL, 0, all} : Order{};
    };
    const Tracer::Ended ended = tracer.run(command, SCRATCH + ".said");
    said = ended.code == -1 ? "it did not end" : ended.said;
    return came;
}
bool kill_after(const std::string& command, double seconds) {
    fflush(nullptr);
    const pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        const int null = open("/dev/null", O_WRONLY);
        dup2(null, 1), dup2(null, 2);
        execl("/bin/sh", "sh", "-c", ("exec " + command).c_str(), (char*)nullptr);
        _exit(127);
    }
    setpgid(pid, pid);
    usleep((useconds_t)(1e6 * seconds));
    kill(-pid, SIGKILL);
    int status = 0, killed = 0;
    for (pid_t ended; (ended = waitpid(-1, &status, 0)) > 0;) killed |= ended == pid && WIFSIGNALED(status);  // ranks are ours when their launcher is gone
    return killed;
}

struct Kill { std::string error; int came; };
Kill kill_and_resume(int n) {
    Random r(15'000 + (uint64_t)n);
    const Kind kind = (Kind)(n % KINDS);
    const int turn = n / KINDS, ranks = kind >= RANK_AT_CALL ? 2 : 1;
    const Undisturbed& run = ranks == 1 ? g_alone : g_two;
    const std::string command = small_run(SCRATCH, "a", ranks, "-y 1");  // which starts afresh where nothing is
    std::string said;
    int came = 0;
    remove_tree(SCRATCH + "/a");
    // 37 has no factor in common with most numbers: few kills are spread over the run, many come to each call. After the last save nothing comes that would
    // put in order what is left: half of them are there
    const int at = turn % 2 ? run.calls - 1 - turn / 2 * 37 % (run.calls / 4) : turn / 2 * 37 % run.calls;
    if (kind == AT_CALL || kind == RANK_AT_CALL) came += kill_at(command, at, false, turn % 4, said);  // one rank alone: the other has 3 s to end
    else if (kind == HALF_WAY) came += kill_at(command, run.writes[(size_t)turn * 37 % run.writes.size()], true, false, said);
    else if (kind == CHAIN) for (int i = r.between(2, 5); i > 0; i--) came += kill_at(command, r.between(0, run.calls * 2 / 3), r.between(0, 1), false, said);
    else came += kill_after(command, run.seconds * r.between(0, 1000) / 1000);
    if (said == "it did not end") return {said, came};
    return {resume_and_compare(SCRATCH, "a", SCRATCH + (ranks == 1 ? "/alone" : "/two"), kind == CHAIN ? r.between(1, 2) : ranks), came};
}
}  // namespace

TEST(kills_at_every_call_and_at_random_moments) {
    const Subreaper subreaper;
    const Scratch scratch("kill");
    SCRATCH = scratch.path;
    g_alone = count_calls("alone", 1), g_two = count_calls("two", 2);
    EXPECT_STR(compare_with_undisturbed(SCRATCH + "/two", SCRATCH + "/alone"), "");
    const int only = how_many("KILL", -1), first = only >= 0 ? only : how_many("FROM", 0), kills = only >= 0 ? 1 : how_many("KILLS", 48);
    int of[KINDS] = {}, came[KINDS] = {}, lost = 0;
    for (int n = first; n < first + kills; n++) {
        const Kill kill = kill_and_resume(n);
        if (!kill.error.empty()) lost++, FAIL("KILL=%d, %s: %s", n, NAMES[n % KINDS], kill.error.c_str());
        of[n % KINDS]++, came[n % KINDS] += kill.came;
    }
    printf("    %d kills from the %dth, %d ends that are not the undisturbed run's; %d calls on files of a run alone, %d of two ranks\n", kills, first, lost, g_alone.calls, g_two.calls);
    for (int k = 0; k < KINDS && kills > 48; k++) printf("    %-30s %5d, which were %d kills before the end\n", NAMES[k], of[k], came[k]);
}
