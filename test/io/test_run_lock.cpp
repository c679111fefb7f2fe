// One process at a time in a folder, with flock and where there is none.
#include "../../llmc/io/run_lock.h"
#include <signal.h>
#include "../test.h"

static std::string fresh(const std::string& name) {
    std::string path = "build/tmp/run_lock/" + name;
    remove_tree(path), make_folders(path);
    return path;
}
using LockCall = int (*)(int, int);
static int no_flock(int, int) { errno = ENOLCK; return -1; }
static int not_supported(int, int) { errno = EOPNOTSUPP; return -1; }
static std::string names(const std::string& folder) {
    std::string all;
    for (const std::string& name : list_folder(folder)) all += name + " ";
    return all;
}


TEST(run_lock_of_one_process) {
    for (LockCall lock : std::vector<LockCall>{flock, no_flock, not_supported}) {
        std::string out = fresh("one") + "/a/b";
        {
            RunLock mine;
            EXPECT_STR(mine.take(out, lock), "");
            EXPECT(RunLock::held_here(out) && RunLock::is_in_use(out));
            const std::string says = format("%s: in use by process %d on ", out.c_str(), (int)getpid());
            Outcome o = run_child([&] { RunLock other; printf("%s", other.take(out, lock).c_str()); });
            EXPECT(o.code == 0 && o.output.starts_with(says) && o.output.size() > says.size());
            EXPECT_EQ(run_child([&] { _exit(RunLock::held_here(out)); }).code, 0);  // the parent's is not a child's
            EXPECT_EQ(run_child([&] { die("a child dies"); }).code, 1);             // nor does it take it along
            RunLock again;
            EXPECT(again.take(out, lock).starts_with(says));
        }
        EXPECT(!RunLock::held_here(out) && !RunLock::is_in_use(out));
        EXPECT_STR(names(out), "");
        RunLock next;
        EXPECT_STR(next.take(out, lock), "");
        next.release();
        // whose process was killed
        EXPECT_EQ(run_child([&] { static RunLock killed; if (killed.take(out, lock).empty()) kill(getpid(), SIGKILL); }).code, 128 + SIGKILL);
        EXPECT(names(out) != "" && !RunLock::is_in_use(out));
        EXPECT_STR(next.take(out, lock), "");
        next.release();
        // who dies takes along the folder it made, if it is empty
        EXPECT_EQ(run_child([&] { static RunLock dying; if (dying.take(out + "/new", lock).empty()) die("no"); }).code, 1);
        EXPECT_STR(names(out), "");
    }
}

// Nobody has asked for its exit code yet.
TEST(run_lock_of_a_zombie) {
    for (LockCall lock : std::vector<LockCall>{flock, no_flock}) {
        const std::string out = fresh("zombie");
        fflush(nullptr);
        const pid_t pid = fork();
        if (pid == 0) {
            static RunLock killed;
            if (killed.take(out, lock).empty()) kill(getpid(), SIGKILL);
            _exit(1);
        }
        siginfo_t info;
        EXPECT_EQ(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
        EXPECT(kill(pid, 0) == 0 && names(out) != "" && !RunLock::is_in_use(out));
        RunLock next;
        EXPECT_STR(next.take(out, lock), "");
        waitpid(pid, nullptr, 0);
    }
}

// Who held it removes the file, and a third makes it anew, between our open and our flock: what we locked locks nobody out.
static std::string g_file;
static int removed_meanwhile(int fd, int how) {
    static bool first = true;
    if (std::exchange(first, false)) unlink(g_file.c_str()), close(open(g_file.c_str(), O_RDWR | O_CREAT, 0666));
    return flock(fd, how);
}
TEST(run_lock_of_a_file_that_was_replaced) {
    std::string out = fresh("replaced");
    g_file = out + "/.lock";
    RunLock mine, other;
    EXPECT_STR(mine.take(out, removed_meanwhile), "");
    EXPECT(other.take(out).starts_with(out + ": in use by process "));
}

TEST(run_lock_stale_or_not) {
    using namespace run_lock_detail;
    std::string out = fresh("stale"), file = out + "/.lock.exclusive";
    auto take = [&](const std::string& holder) {
        write_file_atomically(file, holder);
        RunLock lock;
        return lock.take(out, no_flock);
    };
    const long pid = getpid(), parent = getppid();
    const unsigned long long started = start_time(parent);
    EXPECT(take(format("%s %ld %llu\n", host_name().c_str(), parent, started)).starts_with(format("%s: in use by process %ld on %s", out.c_str(), parent, host_name().c_str())));
    if (start_time(pid)) EXPECT_STR(take(format("%s %ld %llu\n", host_name().c_str(), parent, started + 1)), "");  // its id is another's now
    EXPECT_STR(take(format("%s 2147483646 5\n", host_name().c_str())), "");
    EXPECT_STR(take("elsewhere 2147483646 5\n"), format("%s: in use by process 2147483646 on elsewhere; if that is over, remove %s", out.c_str(), file.c_str()));
    EXPECT(take("").starts_with(out + ": in use by another process; if that is over, remove "));  // just being made
    EXPECT_STR(names(out), ".lock.exclusive ");
    // many at once: one has it at any time
    unlink(file.c_str());
    for (LockCall lock : std::vector<LockCall>{flock, no_flock}) {
        Outcome o = run_child([&] {
            for (int child = 0; child < 4; child++)
                if (fork() == 0) {
                    for (int i = 0; i < 200; i++) {
                        RunLock mine;
                        if (!mine.take(out, lock).empty()) continue;
                        if (mkdir((out + "/alone").c_str(), 0777)) _exit(1);
                        rmdir((out + "/alone").c_str());
                    }
                    _exit(0);
                }
            int status, bad = 0;
            while (wait(&status) > 0) bad += status != 0;
            _exit(bad);
        });
        EXPECT_EQ(o.code, 0);
        EXPECT_STR(names(out), "");
    }
}
