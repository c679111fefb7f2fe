// Soak: a run of hours to which something happens every ten seconds: signals, kills of it or of one of its ranks, calls that fail, limits of memory, files and
// descriptors, damaged and foreign files in its folder, a second run in it, another number of ranks. Each time it must end in time or go on, and never lose
// what it had; in the end it has the undisturbed run's bits.
//     HOURS=1 build/tests soak      (make soak HOURS=1), and as long again for the undisturbed run; else every kind once, in some seconds
#include <signal.h>
#include <chrono>
#include "../layers.h"
#include "runs.h"
#include "tracer.h"

namespace {
std::string SCRATCH;
int g_steps = 1'000'000'000;  // of the run: it goes on until it had its faults
double g_pause;               // seconds between two faults
std::string g_wrong;          // the first thing that was

using Time = std::chrono::steady_clock;
double seconds_since(Time::time_point start) { return std::chrono::duration<double>(Time::now() - start).count(); }
void sleep_for(double seconds) { usleep((useconds_t)(1e6 * seconds)); }

std::string command(int ranks, const std::string& rest = "") {
    return small_run(SCRATCH, "a", ranks, format("-y 1 -e d1c32h2 -b 2 -t 32 -d 128 -v 40 -n 20 -nk 3 --confirm 5 -x %d %s", g_steps, rest.c_str()));
}

// The run as a process group of its own, what it says in a file.
class Slice {
    pid_t first_;
    int status_ = 0;
    bool ended_ = false;

  public:
    // limits: the shell's, as "ulimit -n 8;". reads: by whom its output is read; none: a file.
    explicit Slice(int ranks, const std::string& limits = "", bool piped = false) {
        fflush(nullptr);
        first_ = fork();
        if (first_ == 0) {
            setpgid(0, 0);
            const std::string said = SCRATCH + ".said";
            execl("/bin/sh", "sh", "-c", piped ? (command(ranks) + " 2>&1 | head -c 300 > " + said).c_str() : (limits + "exec " + command(ranks) + " > " + said + " 2>&1").c_str(), (char*)nullptr);
            _exit(127);
        }
        setpgid(first_, first_);
    }
    Slice(const Slice&) = delete;
    bool has_ended() {
        if (!ended_ && waitpid(first_, &status_, WNOHANG) == first_) ended_ = true;
        return ended_;
    }
    // At most so long; what still runs is killed and was wrong.
    void wait(double seconds) {
        for (const auto start = Time::now(); !has_ended() && seconds_since(start) < seconds;) sleep_for(0.005);
        if (!has_ended() && g_wrong.empty()) g_wrong = "it did not end";
    }
    void run_for(double seconds) { for (const auto start = Time::now(); !has_ended() && seconds_since(start) < seconds;) sleep_for(0.005); }
    void send(int signal) { if (!has_ended()) kill(-first_, signal); }
    pid_t pid() const { return first_; }
    // Nobody of it is left.
    ~Slice() {
        kill(-first_, SIGKILL);
        if (!ended_) waitpid(first_, &status_, 0);
        while (waitpid(-1, nullptr, WNOHANG) > 0) {}  // ranks are ours when their launcher is gone
        for (int i = 0; i < 600 && kill(-first_, 0) == 0; i++) sleep_for(0.005), waitpid(-1, nullptr, WNOHANG);
    }
};

std::vector<Checkpoint> checkpoints() { return list_checkpoints(SCRATCH + "/a"); }
int newest_good() {
    int newest = -1;
    for (const Checkpoint& c : checkpoints()) if (is_good(SCRATCH + "/a", c.step) && verify_checkpoint(c.path).empty()) newest = c.step;
    return newest;
}
void flip_a_bit(const std::string& path, Random& r) {
    std::string bytes = text_of(path);
    if (bytes.empty()) return;
    bytes[(size_t)r.between(0, (int)bytes.size() - 1)] ^= (char)(1 << r.between(0, 7));
    FILE* file = fopen(path.c_str(), "wb");  // as it is: no rename, no sync
    if (!file || fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size() || fclose(file)) abort();
}

void by_signal(int signal, bool ends) {
    Slice run(1);
    run.run_for(g_pause);
    run.send(signal);
    if (ends) run.wait(20);
}
// The n-th call on files fails; a run that goes on is killed some calls later.
void by_call(int error, Random& r) {
    Tracer tracer(SCRATCH);
    const auto start = Time::now();
    const int late = r.between(0, 300);
    int at = INT_MAX;
    tracer.on_entry = [&](const Call&, int n) {
        if (at == INT_MAX && seconds_since(start) > g_pause) at = n + late;
        if (n == at) return error ? Order{Order::FAIL, error} : Order{Order::SHORT};
        return n < at || n < at + 50 ? Order{} : Order{Order::KILL, 0, true};
    };
    if (tracer.run(command(1), SCRATCH + ".said").code == -1 && g_wrong.empty()) g_wrong = "it did not end";
}
void with_limits(const std::string& limits) {
    Slice run(1, limits);
    run.run_for(g_pause);
    run.send(SIGTERM);
    run.wait(20);
}
// Something is done to the folder while nobody runs, and then it goes on.
template <class F> void while_it_rests(const F& change) {
    change();
    Slice run(1);
    run.run_for(g_pause);
    run.send(SIGKILL);
}

struct Fault { const char* name; void (*happens)(Random& r); bool damages = false; };  // damages: the newest checkpoint
const Fault FAULTS[] = {
    {"SIGKILL", [](Random&) { by_signal(SIGKILL, true); }},
    {"SIGTERM", [](Random&) { by_signal(SIGTERM, true); }},
    {"SIGINT", [](Random&) { by_signal(SIGINT, true); }},
    {"SIGHUP", [](Random&) { by_signal(SIGHUP, true); }},
    {"SIGSTOP, then on", [](Random&) {
        Slice run(1);
        run.run_for(g_pause / 2);
        run.send(SIGSTOP), sleep_for(g_pause / 4), run.send(SIGCONT);
        run.run_for(g_pause / 2);
        run.send(SIGTERM);
        run.wait(20);
    }},
    {"nobody reads what it says", [](Random&) {
        Slice run(1, "", true);
        run.run_for(g_pause);
        run.send(SIGTERM);
        run.wait(20);
    }},
    {"one of two ranks killed", [](Random&) {
        Slice run(2);
        run.run_for(g_pause);
        const std::string children = text_of(format("/proc/%d/task/%d/children", (int)run.pid(), (int)run.pid()));
        if (const int child = atoi(children.c_str()); child > 0) kill(child, SIGKILL);
        else run.send(SIGKILL);
        run.wait(30);
    }},
    {"two ranks, SIGTERM", [](Random&) {
        Slice run(2);
        run.run_for(g_pause);
        run.send(SIGTERM);
        run.wait(30);
    }},
    {"the launcher of two ranks killed", [](Random&) {
        Slice run(2);
        run.run_for(g_pause);
        if (!run.has_ended()) kill(run.pid(), SIGKILL);
        run.wait(30);
    }},
    {"EIO", [](Random& r) { by_call(EIO, r); }},
    {"ENOSPC", [](Random& r) { by_call(ENOSPC, r); }},
    {"EINTR", [](Random& r) { by_call(EINTR, r); }},
    {"ENOMEM", [](Random& r) { by_call(ENOMEM, r); }},
    {"half of a read or write", [](Random& r) { by_call(0, r); }},
    {"files of 64 KB at most", [](Random&) { with_limits("ulimit -f 128; "); }},
    {"12 descriptors", [](Random&) { with_limits("ulimit -n 12; "); }},
    {"60 MB of address space", [](Random&) { with_limits("ulimit -v 60000; "); }},
    {"a bit of the newest checkpoint", [](Random& r) {
        while_it_rests([&] {
            const std::vector<Checkpoint> all = checkpoints();
            if (all.size() < 3) return;  // there must be a good one before it
            const std::vector<std::string> files = list_folder(all.back().path);
            flip_a_bit(all.back().path + "/" + files[(size_t)r.between(0, (int)files.size() - 1)], r);
        });
    }, true},
    {"a bit of the tokens", [](Random& r) {
        while_it_rests([&] { for (const std::string& name : list_folder(SCRATCH + "/a/tokens")) flip_a_bit(SCRATCH + "/a/tokens/" + name, r); });
    }},
    {"leftovers of another run", [](Random&) {
        while_it_rests([] {
            make_folders(SCRATCH + "/a/.step_99999999.new"), make_folders(SCRATCH + "/a/.step_99999998.del");
            for (const char* name : {"/a/DONE_99999999", "/a/GOOD_99999999", "/a/main.log.1.tmp"}) if (FILE* file = fopen((SCRATCH + name).c_str(), "wb")) fclose(file);
        });
    }},
    {"a second run in its folder", [](Random&) {
        Slice run(1);
        run.run_for(g_pause / 2);
        const Outcome second = run_command(command(1));
        if (!run.has_ended() && second.code != 2 && g_wrong.empty()) g_wrong = format("a second run was not refused, it ended with %d: %s", second.code, second.output.c_str());
        run.run_for(g_pause / 2);
        run.send(SIGTERM);
        run.wait(20);
    }},
};
constexpr int KINDS = (int)(sizeof FAULTS / sizeof *FAULTS);
}  // namespace

TEST(soak) {
#if defined(__SANITIZE_ADDRESS__)
    SKIP("what is shipped is soaked");
#endif
    const Subreaper subreaper;
    const Scratch scratch("soak");
    SCRATCH = scratch.path;
    const double hours = getenv("HOURS") ? atof(getenv("HOURS")) : 0;
    g_pause = hours > 0 ? 10 : 0.3;
    Random r(15'000);
    int faults[KINDS] = {}, all = 0, newest = -1;
    const auto start = Time::now();
    for (int turn = 0; (turn < KINDS || seconds_since(start) < 3600 * hours) && g_wrong.empty(); turn++) {
        const int kind = turn < KINDS ? turn : r.between(0, KINDS - 1);
        FAULTS[kind].happens(r);
        faults[kind]++, all++;
        const int good = newest_good();
        if (good < newest && !FAULTS[kind].damages && g_wrong.empty()) g_wrong = format("the newest good checkpoint was of step %d, is of step %d", newest, good);
        newest = good;
        if (!g_wrong.empty()) FAIL("%s, fault %d: %s: %s", FAULTS[kind].name, all, g_wrong.c_str(), text_of(SCRATCH + ".said").c_str());
    }
    const std::vector<Checkpoint> saved = list_checkpoints(SCRATCH + "/a");
    if (saved.empty()) return FAIL("no checkpoint is left");
    g_steps = (saved.back().step / 40 + 1) * 40;  // the run ends soon
    const std::string last = command(1, "-nk 1");  // what signals had it save is of other steps: the last one is compared
    const Outcome end = run_command(last);
    if (end.code) FAIL("the last run ended with %d: %s", end.code, end.output.c_str());
    const double disturbed = seconds_since(start);
    rename((SCRATCH + "/a").c_str(), (SCRATCH + "/disturbed").c_str());
    const Outcome alone = run_command(last);
    EXPECT_EQ(alone.code, 0);
    EXPECT_STR(compare_with_undisturbed(SCRATCH + "/disturbed", SCRATCH + "/a", g_steps), "");
    printf("    %d faults of %d kinds in %.0f s, %d steps\n", all, KINDS, disturbed, g_steps);
    for (int k = 0; k < KINDS && hours > 0; k++) printf("    %-34s %5d\n", FAULTS[k].name, faults[k]);
}
