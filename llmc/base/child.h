// child.h: child processes: a program whose output is read, and work that may fail without ending this process.
#pragma once
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>
#include "check.h"

// The path of a program, empty if there is none: where PATH has it, of folders that PATH names from the root on: what lies in the folder in which a run is
// started is not run because it has that name.
inline std::string path_of_program(const std::string& name) {
    const char* path = getenv("PATH");
    const std::string folders = path ? path : "/usr/bin:/bin";
    for (size_t at = 0, end; at < folders.size(); at = end + 1) {
        end = std::min(folders.find(':', at), folders.size());
        const std::string program = folders.substr(at, end - at) + "/" + name;
        if (folders[at] == '/' && access(program.c_str(), X_OK) == 0) return program;
    }
    return "";
}

// A program that reads the descriptor `in`, whose file offset it shares, and whose standard output is `out`. No shell is between: one may not
// take descriptors above 9, and its exit codes are not the program's.
class PipedProgram {
    pid_t pid_ = -1;

  public:
    FILE* out = nullptr;

    // Returns the error, or "".
    std::string start(const std::vector<const char*>& command, int in) {
        const std::string program = path_of_program(command[0]);
        if (program.empty()) return format("cannot read it: the program %s is not installed", command[0]);
        int fd[2];
        if (pipe2(fd, O_CLOEXEC)) return strerror(errno);
        posix_spawn_file_actions_t files;
        posix_spawn_file_actions_init(&files);
        posix_spawn_file_actions_adddup2(&files, in, STDIN_FILENO);
        posix_spawn_file_actions_adddup2(&files, fd[1], STDOUT_FILENO);
        posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
        std::vector<const char*> argv = command;
        argv.push_back(nullptr);
        posix_spawnattr_t how;
        posix_spawnattr_init(&how);
        sigset_t blocked;
        sigemptyset(&blocked), sigaddset(&blocked, SIGUSR1);  // sent by a batch system to all processes of a job, it asks for a checkpoint (stop.h) and ends whom it means nothing
        posix_spawnattr_setsigmask(&how, &blocked), posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGMASK);
        const int error = posix_spawn(&pid_, program.c_str(), &files, &how, (char* const*)argv.data(), environ);
        posix_spawn_file_actions_destroy(&files), posix_spawnattr_destroy(&how);
        close(fd[1]);
        out = error ? nullptr : fdopen(fd[0], "rb");
        if (!error) return "";
        close(fd[0]);
        return format("cannot run %s: %s", program.c_str(), strerror(error));
    }
    // Waits for its end. true: it succeeded.
    bool finish() {
        if (out) fclose(std::exchange(out, nullptr));
        int status = -1;
        if (pid_ > 0) while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {}
        pid_ = -1;
        return status == 0;
    }
    PipedProgram() = default;
    PipedProgram(const PipedProgram&) = delete;
    PipedProgram& operator=(const PipedProgram&) = delete;
    ~PipedProgram() { finish(); }
};

// Runs what may die in a child process, without ending this one: "", or the line that it died with.
template <class Work> std::string error_of(Work work) {
    int fd[2];
    if (pipe2(fd, O_CLOEXEC)) return strerror(errno);
    fflush(nullptr);  // or the child would write what waits here too
    const pid_t pid = fork();
    if (pid < 0) die("fork: %s", strerror(errno));
    if (pid == 0) {
        dup2(fd[1], STDERR_FILENO);
        work();
        _exit(0);
    }
    close(fd[1]);
    std::string said;
    char buffer[4096];
    for (ssize_t n; (n = read(fd[0], buffer, sizeof buffer)) != 0;) {
        if (n > 0) said.append(buffer, (size_t)n);
        else if (errno != EINTR) break;
    }
    close(fd[0]);
    int status = -1;
    if (pid > 0) while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    if (status == 0) return "";
    if (said.starts_with("error: ")) said.erase(0, strlen("error: "));
    while (said.ends_with('\n')) said.pop_back();
    return said.empty() ? "cannot be read" : said;
}
