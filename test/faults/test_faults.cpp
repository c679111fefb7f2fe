// Faults: each call on files that the shipped trainer makes, in a run from the start and in one that is resumed, fails once with each of six errors or does
// half of what it was asked. The run goes on and is right, or ends with one line that names the file; where a pruning fails it goes on and says so. Resumed
// without faults it has the undisturbed run's bits, and no checkpoint that was there before is lost. And a disk that is full for real, in a mount namespace of its own.
//     FAULTS=100000 build/tests calls_that_fail             all of them (make test-faults)
//     FAULTS=1000 FROM=2000 build/tests calls_that_fail     a thousand of all, from the 2000th: counts of several runs add up
//     FAULT=1234 build/tests calls_that_fail                that one alone
#include <sched.h>
#include <sys/mount.h>
#include "runs.h"
#include "tracer.h"

namespace {
std::string SCRATCH;

struct Fault { int error; const char* name; };  // error 0: half of it
constexpr Fault FAULT_KINDS[] = {{0, "half"}, {EIO, "EIO"}, {ENOSPC, "ENOSPC"}, {EINTR, "EINTR"}, {EMFILE, "EMFILE"}, {ENOMEM, "ENOMEM"}, {EDQUOT, "EDQUOT"}};
constexpr int KINDS = 7;

// From the start, or resumed after step 4 with checkpoints of 2 and 4.
struct Start { const char* folder; int calls; };
Start g_starts[2] = {{"", 0}, {"four", 0}};
std::map<std::string, std::vector<int>> g_alike;  // the calls of both, by what they do and of what

void begin_as(const Start& start, const std::string& out) {
    remove_tree(SCRATCH + "/" + out);
    if (*start.folder) run_command(format("cp -a %s/%s %s/%s", SCRATCH.c_str(), start.folder, SCRATCH.c_str(), out.c_str()));
}

bool goes(const std::string& path) { return has(path, ".del"); }  // a file of a checkpoint that is pruned
std::string sort_of(const Call& call) {
    const std::string files = call.path + call.path2;
    const bool mark = has(files, "/DONE_") || has(files, "/GOOD_") || has(files, "/BAD_");
    return std::string(call.row->name) + (goes(files) ? " of one that goes" : has(files, "/.step_") ? " of one that comes" : has(files, "/step_") ? " of one that is there" : !mark ? "" : access(call.path.c_str(), F_OK) ? " of a mark that is not there" : " of a mark");
}
// POSIX lets a signal interrupt these, and a read or write do a part: a program goes on. And it does where what is not needed any more cannot be removed.
bool must_go_on(const Call& call, int error) {
    if (error == 0 || goes(call.path) || goes(call.path2)) return true;
    return error == EINTR && (call.is(Does::OPENS) || call.is(Does::READS) || call.is(Does::WRITES) || call.is(Does::SYNCS) || call.is(Does::TRUNCATES) || call.is(Does::LOCKS) || call.is(Does::CLOSES));
}
std::string lines_with(const std::string& text, const std::string& start, int& n) {
    std::string found;
    n = 0;
    for (const std::string& line : lines_of(text)) if (line.starts_with(start)) found += line, n++;
    return found;
}
std::string last_line(const std::string& text) { return lines_of(text).empty() ? "" : lines_of(text).back(); }
// A temporary file's is that of the file which it becomes.
std::string name_of_file(const std::string& path) {
    const std::string name = path.substr(path.rfind('/') + 1);
    if (name.ends_with(".tmp")) return name.substr(0, name.rfind('.', name.size() - 5));
    return name.substr(0, name.find(".tmp-"));
}

// "", or why what the run did after the fault is wrong.
std::string judge(const Call& call, int error, const Tracer::Ended& ended, int newest_before) {
    const std::string out = SCRATCH + "/a";
    if (ended.code == -1) return "it did not end";
    int newest = -1;
    for (const Checkpoint& c : list_checkpoints(out)) {
        const std::string damage = verify_checkpoint(c.path);
        if (!damage.empty()) return c.path + ": " + damage;
        newest = std::max(newest, c.step);
    }
    for (const std::string& name : list_folder(out))
        if (name.starts_with("DONE_") && !has_checkpoint(out, atoi(name.c_str() + 5))) return name + " without its checkpoint";
    if (newest < newest_before) return format("the newest checkpoint is of step %d, it was of step %d", newest, newest_before);
    if (ended.code == 0 && call.is(Does::SYNCS) && error != EINTR) return "it went on, though nothing says that the bytes are on the disk";
    if (ended.code == 0 && call.is(Does::UNLINKS) && name_of_file(call.path) == ".lock") remove_file(call.path);  // stays, as after a kill: nobody holds it
    const auto is_named_in = [&](const std::string& line) {
        // of a folder that is deleted with all that is in it, it names the folder
        if (has(call.path, ".del/") && has(line, name_of_file(parent_folder(call.path)))) return true;
        return has(line, name_of_file(call.path)) || (!call.path2.empty() && has(line, name_of_file(call.path2)));
    };
    int lines = 0;
    const std::string not_pruned = lines_with(ended.said, "not pruned: ", lines);
    if (lines && !is_named_in(not_pruned)) return "it does not name the file that it could not remove: " + not_pruned;
    if (ended.code == 0) return lines ? "" : compare_with_undisturbed(out, SCRATCH + "/alone");  // what was not pruned is when it is resumed
    if (must_go_on(call, error)) return "it did not go on";
    if (ended.code != 1 && ended.code != 2) return "it did not end with 1 or 2";
    const std::string why = lines_with(ended.said, "error: ", lines);  // where it reads ahead, a step may end after it
    if (lines != 1) return "it did not say one line why";
    return is_named_in(why) ? "" : "it does not name the file";
}

// The n-th: which start, call and kind. "" if all is as it should be; `what` says what it was.
std::string fail_and_resume(int n, std::string& what) {
    const int kind = n % KINDS, at = n / KINDS;
    const Start& start = g_starts[at >= g_starts[0].calls];
    const int wanted = at < g_starts[0].calls ? at : at - g_starts[0].calls;
    const Fault& fault = FAULT_KINDS[kind];
    begin_as(start, "a");
    Tracer tracer(SCRATCH);
    Call failed = {};
    bool lie = false;
    tracer.on_entry = [&](const Call& call, int c) {
        lie |= call.is(Does::RENAMES) && goes(call.path2) && access((parent_folder(call.path) + "/DONE_" + call.path.substr(call.path.size() - 8)).c_str(), F_OK) == 0;
        if (c != wanted) return Order{};
        failed = call;
        return fault.error ? Order{Order::FAIL, fault.error} : Order{Order::SHORT};
    };
    const Tracer::Ended ended = tracer.run(small_run(SCRATCH, "a", 1, "-y 1"), SCRATCH + ".said");
    what = format("%s of call %d, %s, %s", fault.name, wanted, failed.row ? failed.text().c_str() : "which did not come", *start.folder ? "resumed" : "from the start");
    if (!failed.row) return "";
    if (!fault.error && (failed.bytes < 2 || !(failed.is(Does::READS) || failed.is(Does::WRITES)))) return "";
    std::string error = lie ? "a checkpoint goes before its DONE" : judge(failed, fault.error, ended, *start.folder ? 4 : -1);
    if (error.empty() && (ended.code || has(ended.said, "not pruned: "))) error = resume_and_compare(SCRATCH, "a", SCRATCH + "/alone", 1);
    return error.empty() ? "" : error + format("; it ended with %d: ", ended.code) + (ended.code ? last_line(ended.said) : "");
}

// So many faults: all, or all from one on, or of each sort of call some, the last ones first, as an early checkpoint may be gone when it is looked at; each kind of fault in its turn.
std::vector<int> choose(int faults, int from) {
    std::vector<int> chosen;
    const int all = (g_starts[0].calls + g_starts[1].calls) * KINDS;
    if (from < 0 && faults >= all) from = 0;
    for (int n = from; from >= 0 && n < std::min(all, from + faults); n++) chosen.push_back(n);
    if (from >= 0) return chosen;
    for (int turn = 0; (int)chosen.size() < std::min(faults, all); turn++)
        for (const auto& [name, calls] : g_alike) {
            const bool moves = has(name, "read") || has(name, "write");  // what can be done by half
            chosen.push_back(calls[calls.size() - 1 - (size_t)turn * 37 % calls.size()] * KINDS + (moves ? turn % KINDS : 1 + turn % (KINDS - 1)));
        }
    return chosen;
}

void prepare_runs() {
    for (Start& start : g_starts) {
        begin_as(start, "alone");
        Tracer tracer(SCRATCH);
        const int before = &start == g_starts ? 0 : g_starts[0].calls;
        tracer.on_entry = [&](const Call& call, int n) { g_alike[sort_of(call)].push_back(before + n); return Order{}; };
        const Tracer::Ended ended = tracer.run(small_run(SCRATCH, "alone", 1, "-y 1"), SCRATCH + ".said");
        if (ended.code) FAIL("the undisturbed run ended with %d: %s", ended.code, ended.said.c_str());
        start.calls = tracer.calls;
        if (!*start.folder) run_command(small_run(SCRATCH, "four", 1, "-x 4"));
    }
    begin_as(g_starts[0], "alone");
    run_command(small_run(SCRATCH, "alone", 1));
}
}  // namespace

TEST(calls_that_fail) {
    const Scratch scratch("calls");
    SCRATCH = scratch.path;
    prepare_runs();
    const int only = how_many("FAULT", -1);
    const std::vector<int> chosen = only >= 0 ? std::vector<int>{only} : choose(how_many("FAULTS", 50), how_many("FROM", -1));
    EXPECT(!chosen.empty());
    int wrong = 0;
    for (int n : chosen) {
        std::string what;
        if (const std::string error = fail_and_resume(n, what); !error.empty()) wrong++, printf("    FAULT=%d, %s: %s\n", n, what.c_str(), error.c_str());
        else if (only >= 0) printf("    %s\n", what.c_str());
    }
    printf("    %zu faults of %d, %d of them wrong; %zu sorts of calls\n", chosen.size(), (g_starts[0].calls + g_starts[1].calls) * KINDS, wrong, g_alike.size());
    EXPECT_EQ(wrong, 0);
}

// ---- a disk that is full for real ----------------------------------------------------------------------------------------

namespace {
bool write_to(const char* path, const std::string& text) {
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    const bool written = fd >= 0 && write(fd, text.data(), text.size()) == (ssize_t)text.size();
    if (fd >= 0) close(fd);
    return written;
}
// A mount namespace of our own: where no root is, in a user namespace in which we are.
bool may_mount() {
    const std::string user = format("0 %d 1", (int)getuid()), group = format("0 %d 1", (int)getgid());
    const bool root = getuid() == 0;
    if (unshare(CLONE_NEWNS | (root ? 0 : CLONE_NEWUSER))) return false;
    if (!root && !(write_to("/proc/self/setgroups", "deny") && write_to("/proc/self/uid_map", user) && write_to("/proc/self/gid_map", group))) return false;
    return mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}
// A run on a disk of so many KB; then the disk is made larger, and the run goes on. Says what is wrong; returns whether the disk sufficed.
bool run_on_small_disk(const std::string& disk, int kb) {
    const std::string out = disk + "/a", text = read_file(SCRATCH + "/text.txt");
    CHECK(mount("none", disk.c_str(), "tmpfs", 0, format("size=%dk", kb).c_str()) == 0, "%s", errno_text(disk).c_str());
    write_file_atomically(disk + "/text.txt", text);
    const Outcome run = run_command(small_run(disk, "a", 1));
    std::vector<std::string> lines = lines_of(run.output);
    std::erase_if(lines, [](const std::string& line) { return !line.starts_with("error: "); });
    if (run.code && (run.code != 1 || lines.size() != 1 || !has(lines[0], disk) || !has(lines[0], strerror(ENOSPC)))) printf("%d KB: ended with %d: %s\n", kb, run.code, run.output.c_str());
    for (const Checkpoint& c : list_checkpoints(out))
        if (const std::string damage = verify_checkpoint(c.path); !damage.empty()) printf("%d KB: %s: %s\n", kb, c.path.c_str(), damage.c_str());
    for (const std::string& name : list_folder(out))
        if (name.starts_with("DONE_") && !has_checkpoint(out, atoi(name.c_str() + 5))) printf("%d KB: %s without its checkpoint\n", kb, name.c_str());
    CHECK(mount("none", disk.c_str(), "tmpfs", MS_REMOUNT, "size=64m") == 0, "%s", errno_text(disk).c_str());
    if (const std::string error = resume_and_compare(disk, "a", SCRATCH + "/alone", 1); !error.empty()) printf("%d KB, and then more: %s\n", kb, error.c_str());
    umount(disk.c_str());
    return run.code == 0;
}
}  // namespace

TEST(disk_that_is_full) {
    const Scratch scratch("full");
    SCRATCH = scratch.path;
    run_command(small_run(SCRATCH, "alone", 1));
    const std::string disk = SCRATCH + "/disk";
    make_folders(disk);
    const int step = how_many("FAULTS", 0) ? 4 : 64;  // KB; a page is what a file takes, at least
    const Outcome o = run_child([&] {
        if (!may_mount()) _exit(77);
        int full = 0;
        for (int kb = 28; !run_on_small_disk(disk, kb); kb += step) full++;
        if (full < 3) printf("only %d disks were full\n", full);
    });
    if (o.code == 77) SKIP("no file system may be mounted here, even in a namespace of our own");
    EXPECT_EQ(o.code, 0);
    EXPECT_STR(o.output, "");
}
