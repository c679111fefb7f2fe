// Injected deaths: a rank of the shipped trainer is killed, stopped, asked to end, finds its disk full, or begins with other options or other data than the
// rest, at a random moment. All ranks end in time, one line names the culprit, nothing is left, and a restart reaches the bits of the undisturbed run.
//     DEATHS=200 build/tests deaths_at_random      so many of them (make test-deaths); 20 unless told
//     DEATH=17 build/tests deaths_at_random        that one alone
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <atomic>
#include <thread>
#include "../../llmc/comm/flight_recorder.h"
#include "../../llmc/io/checkpoint.h"
#include "../../llmc/io/run_lock.h"
#include "../layers.h"
#include "../trainer_runs.h"

namespace {
const std::string HERE = [] { char path[4096]; return std::string(getcwd(path, sizeof path) ? path : "."); }();
const std::string SCRATCH = HERE + "/build/tmp/deaths";  // from the root: by it processes are found that are left
constexpr int STEPS = 40;
constexpr double DEADLINE = 1.5;  // seconds, --comm-timeout: in a step; ten times as many between steps
constexpr double GRACE = 5;       // that may pass beyond it, until all have ended
// Where more programs want to run than there are cores, all of it takes longer.
double grace() {
    double load = 0;
    return GRACE * (getloadavg(&load, 1) == 1 ? std::max(1.0, load / (double)sysconf(_SC_NPROCESSORS_ONLN) / 3) : 1);
}
constexpr size_t AT_A_TIME = 3;   // deaths: most of their time is waited for

enum Kind { KILLED, SEGFAULT, ASKED, STOPPED, FULL_DISK, OTHER_OPTIONS, OTHER_DATA, KINDS };
const char* const NAMES[KINDS] = {"SIGKILL", "SIGSEGV", "SIGTERM", "SIGSTOP", "full disk", "other options", "other data"};
struct Death {
    Kind kind;
    int world, victim, restarts;  // ranks, and those of the restart
    bool mpi;
    int step;                     // after which it comes; -1: before the first one
    double later;                 // seconds after that
};

bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }
double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
bool mpirun_works() {
    static const bool works = run_command("mpirun --version").code == 0 && has(run_command(std::string("ldd ") + TRAINER).output, "libmpi");
    return works;
}
std::string binary() { return *TRAINER == '/' ? TRAINER : HERE + "/" + TRAINER; }
// 4 leaves of one micro-batch each, for 1, 2 or 4 ranks; the data are where it is started
std::string trainer(const std::string& out, const std::string& rest = "", const char* lr = "1e-2") {
    return format("%s -i text.txt -o %s/%s -e d2c32h2 -b 2 -t 32 -d 256 --leaves 4 --tokenizer bytes -s 0 -l %s -v 8 -m 3 -n 5 -nk 2 -x %d --schedule constant --comm-timeout %g %s", binary().c_str(),
                  SCRATCH.c_str(), out.c_str(), lr, STEPS, DEADLINE, rest.c_str());
}
std::string command_of(const Death& d, const std::string& out) {
    const std::string ranks = format("%s--ranks %d", d.step % 2 ? "-z 1 " : "", d.world);
    if (!d.mpi) return "cd " + SCRATCH + "/data && exec " + trainer(out, ranks);
    std::string command = format("cd %s/data && export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 ASAN_OPTIONS=detect_leaks=0:handle_segv=0 TMPDIR=%s/%s.tmp OMPI_MCA_btl_vader_backing_directory=%s/%s.shm; exec mpirun --oversubscribe",
                                 SCRATCH.c_str(), SCRATCH.c_str(), out.c_str(), SCRATCH.c_str(), out.c_str());
    for (int r = 0; r < d.world; r++) {
        const bool other = r == d.victim;
        command += format("%s -np 1 -wdir %s/%s %s", r ? " :" : "", SCRATCH.c_str(), other && d.kind == OTHER_DATA ? "other" : "data", trainer(out, "", other && d.kind == OTHER_OPTIONS ? "2e-2" : "1e-2").c_str());
    }
    return command;
}

std::string text_of(const std::string& path) {
    std::string text;
    (void)try_read_file(path, text);
    return text;
}
// Processes whose command line has `mark`. rank >= 0: that rank alone, as its launcher has told it.
std::vector<pid_t> processes(const std::string& mark, int rank = -1) {
    std::vector<pid_t> found;
    DIR* proc = opendir("/proc");
    if (!proc) abort();
    while (const dirent* entry = readdir(proc)) {
        const pid_t pid = (pid_t)atol(entry->d_name);
        if (pid <= 0 || !has(text_of(format("/proc/%d/cmdline", (int)pid)), mark)) continue;
        if (rank >= 0) {
            const std::string env = '\0' + text_of(format("/proc/%d/environ", (int)pid)), value = "RANK=" + std::to_string(rank) + '\0';
            if (!has(env, std::string(1, '\0') + "LLMC_" + value) && !has(env, std::string(1, '\0') + "OMPI_COMM_WORLD_" + value)) continue;
        }
        found.push_back(pid);
    }
    closedir(proc);
    return found;
}

// A launcher in a process group of its own; what it and its ranks say.
class Launch {
    int out_ = -1, status_ = 0;
    bool ended_ = false;

public:
    pid_t pid;
    std::string said;
    double first_error = 0;  // when the first line with "error: " came

    explicit Launch(const std::string& command) {
        int fd[2];
        if (pipe2(fd, O_CLOEXEC)) abort();
        fflush(nullptr);
        pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            setpgid(0, 0);
            dup2(fd[1], 1), dup2(fd[1], 2);
            execl("/bin/sh", "sh", "-c", command.c_str(), (char*)nullptr);
            _exit(127);
        }
        close(fd[1]);
        out_ = fd[0];
    }
    ~Launch() {
        if (!ended_) kill(-pid, SIGKILL), waitpid(pid, &status_, 0);
        close(out_);
    }
    // Reads what comes within so many seconds, until `there` is said or nobody is left who could say it.
    bool says(const std::string& there, double seconds) {
        for (const double end = now() + seconds; !has(said, there);) {
            pollfd ready = {out_, POLLIN, 0};
            const double left = end - now();
            if (left <= 0 || poll(&ready, 1, (int)(1000 * left) + 1) != 1) return false;
            char text[4096];
            const ssize_t n = read(out_, text, sizeof text);
            if (n <= 0) return false;
            said.append(text, (size_t)n);
            if (first_error == 0 && has(said, "error: ")) first_error = now();
        }
        return true;
    }
    // Reads on until it has ended, or so many seconds have passed.
    void waits(double seconds) {
        for (const double end = now() + seconds; !over() && now() < end;) (void)says("nothing that is ever said", 0.01), usleep(2000);
        (void)says("nothing that is ever said", 0.01);
    }
    bool over() {
        if (!ended_) ended_ = waitpid(pid, &status_, WNOHANG) == pid;
        return ended_;
    }
    int code() const { return WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_); }
};

std::vector<std::string> leftovers(const std::string& folder) {
    std::vector<std::string> names = list_folder(folder);
    std::erase_if(names, [](const std::string& name) { return name == "." || name == ".."; });
    return names;
}
int count_lines(const std::string& text, const std::string& part) {
    int n = 0;
    for (const std::string& line : lines_of(text)) n += has(line, part);
    return n;
}

// What the launcher must return and say. "": all is as it should be.
std::string judge(const Death& d, const Launch& launch, pid_t victim) {
    const std::string& said = launch.said;
    const int code = launch.code();
    const std::string rank = format("rank %d", d.victim);
    const int errors = count_lines(said, "error: ");
    const auto says_once = [&](const std::string& line, int expected) -> std::string {
        if (code != expected) return format("exit code %d, expected %d", code, expected);
        if (count_lines(said, line) != 1) return format("%d lines say '%s'", count_lines(said, line), line.c_str());
        if (errors != count_lines(said, rank) || errors > 2) return format("%d errors", errors);  // the launcher's, and that of the first rank that waits in vain
        return "";
    };
    if (d.mpi && d.kind <= STOPPED && d.kind != ASKED) {  // mpirun has words of its own, and a rank may be faster
        if (code == 0) return "exit code 0";
        if (d.kind == STOPPED && d.step >= 0 && errors != 1) return format("%d errors", errors);  // who was stopped and goes on, as mpirun ends it, says nothing
        return has(said, rank) ? "" : "nobody names " + rank;
    }
    switch (d.kind) {
    case KILLED: return says_once(format("error: %s (process %d) was killed by signal 9 (Killed)", rank.c_str(), (int)victim), 128 + SIGKILL);
    case SEGFAULT: return says_once(format("error: %s (process %d) was killed by signal 11 (Segmentation fault)", rank.c_str(), (int)victim), 128 + SIGSEGV);
    case STOPPED:
        if (code != EXIT_COMM) return format("exit code %d, expected %d", code, EXIT_COMM);
        return errors == 1 && has(said, format(": %s (process %d) has not come within ", rank.c_str(), (int)victim)) ? "" : "not one line that names " + rank;
    case FULL_DISK: return says_once(format("error: %s: ", rank.c_str()), 1) + (has(said, "File too large") ? "" : " nobody says that the file is too large");
    case ASKED: return code == 0 ? count_lines(said, "interrupted after step ") == 1 ? "" : "nobody says that it was interrupted" : has(said, "error: ") || (d.mpi && d.step < 0 && code == 128 + SIGTERM) ? "" : "nobody says why";  // mpirun's own words, if it came before a rank asks for signals
    case OTHER_OPTIONS: return says_once(format("error: %s: --lr: %s has '0.02', rank 0 has '0.01'", rank.c_str(), rank.c_str()), EXIT_USAGE);
    case OTHER_DATA: return says_once(format("error: %s: the data: %s has ", rank.c_str(), rank.c_str()), EXIT_USAGE);
    default: return "no such kind";
    }
}

struct Result { std::string error; bool came; double seconds; };
Result inject(const Death& d, const std::string& out) {
    for (const char* folder : {".tmp", ".shm"}) make_folders(SCRATCH + "/" + out + folder);
    Launch launch(command_of(d, out));
    const std::string mark = SCRATCH + "/" + out + '\0';
    pid_t victim = 0;
    if (d.step >= 0 && d.kind < OTHER_OPTIONS) launch.says(format(" %d/%d ", d.step, STEPS), 60);
    else launch.waits(d.later);
    double broken = now();
    if (d.kind < OTHER_OPTIONS) {
        if (d.step >= 0) usleep((useconds_t)(1e6 * d.later));
        for (int look = 0; look < 1000 && !victim && !launch.over(); look++) {  // it may not have begun
            const std::vector<pid_t> found = processes(mark, d.victim);
            if (found.empty()) { usleep(1000); continue; }
            victim = found[0];
        }
        const int signals[] = {SIGKILL, SIGSEGV, SIGTERM, SIGSTOP};
        broken = now();
        const rlimit none = {0, 0};
        if (victim && (d.kind == FULL_DISK ? prlimit(victim, RLIMIT_FSIZE, &none, nullptr) : kill(victim, signals[d.kind]))) victim = 0;
    }
    // where a rank finds it out by itself, it breaks when it says so
    const bool finds_out = d.kind == FULL_DISK || d.kind == OTHER_OPTIONS || d.kind == OTHER_DATA;
    const double limit = finds_out ? 60 : (d.kind == STOPPED ? 10 * DEADLINE : d.kind == ASKED ? DEADLINE : 0) + grace();
    // A process that ends has no command line any more, but files, and with them its lock, for some milliseconds.
    const auto in_use = [&] { return RunLock::is_in_use(SCRATCH + "/" + out); };
    std::vector<pid_t> left;
    do {
        launch.waits(0.01);
        left = launch.over() ? processes(mark) : std::vector<pid_t>{1};
    } while ((!left.empty() || in_use()) && now() - broken < limit + 10);
    if (finds_out && launch.first_error > 0) broken = launch.first_error;
    const double seconds = now() - broken;
    for (pid_t pid : left) if (pid > 1) kill(pid, SIGKILL);
    launch.waits(0);
    const bool came = launch.code() != 0 || d.kind == ASKED;
    if (!left.empty()) return {format("%zu processes are left after %.1f s: %s", left.size(), seconds, launch.said.c_str()), came, seconds};
    if (launch.code() == 0 && has(launch.said, format(" %d/%d ", STEPS, STEPS))) return {"", false, 0};  // it was over before; or had nothing more to write
    if (finds_out && seconds > grace()) return {format("ended %.1f s after the first error", seconds), came, seconds};
    if (!finds_out && seconds > limit) return {format("ended after %.1f s, expected %.1f", seconds, limit), came, seconds};
    if (std::string error = judge(d, launch, victim); !error.empty()) return {error + ": it said\n" + launch.said, came, seconds};
    if (in_use()) return {"its lock is left", came, seconds};
    for (const char* folder : {".tmp", ".shm"})
        if (const auto names = leftovers(SCRATCH + "/" + out + folder); !names.empty()) return {format("left in %s: %s", folder, names[0].c_str()), came, seconds};
    return {"", came, seconds};
}
// On other ranks to the end: "" if that is the undisturbed run's, bit for bit.
std::string restart(const Death& d, const std::string& out) {
    Launch again("cd " + SCRATCH + "/data && exec " + trainer(out, format("-y 1 --ranks %d", d.restarts)));
    again.waits(300);
    if (!again.over()) return "the restart has not ended within 300 s: " + again.said;
    if (again.code()) return format("the restart ended with %d: %s", again.code(), again.said.c_str());
    const std::string step = checkpoint_path("", STEPS);
    for (const std::string& file : {step + "/model.safetensors", step + "/state-00000.safetensors", std::string("/main.log")}) {
        const std::string here = text_of(SCRATCH + "/" + out + file);
        if (here.empty() || here != text_of(SCRATCH + "/undisturbed" + file)) return file + " differs from the undisturbed run's";
    }
    for (const std::string& name : list_folder(SCRATCH + "/" + out)) if (name.starts_with(".step_") || has(name, ".tmp-")) return "left in the folder: " + name;
    return "";
}

// The n-th death: each kind, world, launcher and moment has its turn.
Death death(int n, double start) {
    Random r(48'000 + (uint64_t)n);
    Death d;
    d.kind = (Kind)(n % KINDS);
    d.mpi = mpirun_works() && (d.kind >= OTHER_OPTIONS || r.between(0, 3) == 0);
    d.world = r.between(0, 1) ? 2 : 4;
    d.victim = d.kind >= OTHER_OPTIONS ? r.between(1, d.world - 1) : r.between(0, d.world - 1);
    d.restarts = 1 << r.between(0, 2);
    d.step = d.kind != STOPPED && r.between(0, 3) == 0 ? -1 : r.between(1, STEPS - 2);  // before the first step an hour is what a rank may take
    if (d.kind == STOPPED && n < 20) d.step = d.step / 5 * 5 + 1;  // hardly between steps, where more time is left: these few shall not take long
    d.later = d.step < 0 ? 1e-3 * r.between(0, (int)(1000 * start)) : 1e-6 * r.between(0, 20'000);
    return d;
}
}  // namespace

TEST(deaths_at_random_moments) {
    const int some = strstr(BUILD, "asan") ? KINDS : 20;  // what lives is looked at, not what dies
    const int deaths = getenv("DEATHS") ? atoi(getenv("DEATHS")) : some, only = getenv("DEATH") ? atoi(getenv("DEATH")) : -1;
    remove_tree(SCRATCH);
    setenv("ASAN_OPTIONS", "handle_segv=0", 1);  // a segmentation fault is to be one there too, not a report of it
    prepare_text(SCRATCH + "/data", 1500), prepare_text(SCRATCH + "/other", 1500);
    std::string other = text_of(SCRATCH + "/other/text.txt");
    other[other.size() / 2] = '!';  // as long, and as many tokens
    write_file_atomically(SCRATCH + "/other/text.txt", other);
    Launch undisturbed("cd " + SCRATCH + "/data && exec " + trainer("undisturbed"));
    const double began = now();
    EXPECT(undisturbed.says(format(" 1/%d ", STEPS), 60));
    const double start = now() - began;
    undisturbed.waits(60);
    EXPECT_EQ(undisturbed.code(), 0);
    std::vector<int> numbers;
    for (int n = only >= 0 ? only : 0; n < (only >= 0 ? only + 1 : deaths); n++)
        if (const Death d = death(n, start); d.kind < OTHER_OPTIONS || d.mpi) numbers.push_back(n);  // --ranks starts all alike
    std::vector<Result> results(numbers.size());
    std::atomic<size_t> next = 0;
    std::vector<std::thread> workers;
    for (size_t w = 0; w < AT_A_TIME; w++)
        workers.emplace_back([&] {
            for (size_t i; (i = next++) < numbers.size();) {
                const Death d = death(numbers[i], start);
                const std::string out = format("d%d", numbers[i]);
                results[i] = inject(d, out);
                if (results[i].error.empty()) results[i].error = restart(d, out);
                if (results[i].error.empty()) for (const char* folder : {"", ".tmp", ".shm"}) remove_tree(SCRATCH + "/" + out + folder);
            }
        });
    for (std::thread& worker : workers) worker.join();
    struct { int all = 0, came = 0; double slowest = 0; } of[KINDS];
    for (size_t i = 0; i < numbers.size(); i++) {
        const Death d = death(numbers[i], start);
        const Result& r = results[i];
        if (!r.error.empty())
            FAIL("DEATH=%d, %s of rank %d of %d%s, %s + %.4f s: %s", numbers[i], NAMES[d.kind], d.victim, d.world, d.mpi ? " by mpirun" : "", d.step < 0 ? "the start" : format("step %d", d.step).c_str(), d.later, r.error.c_str());
        of[d.kind].all++, of[d.kind].came += r.came, of[d.kind].slowest = std::max(of[d.kind].slowest, r.seconds);
    }
    if (deaths > 20) for (int k = 0; k < KINDS && of[k].all; k++) printf("    %-14s %3d, of which %3d came before the end; all had ended %.2f s after it\n", NAMES[k], of[k].all, of[k].came, of[k].slowest);
}
