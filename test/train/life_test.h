// life_test.h: what tests of a run's life share: runs on a text, and processes that are looked at while they run. Who includes it has a SCRATCH of its own,
// as files of tests run at the same time.
#pragma once
#include <fcntl.h>
#include <signal.h>
#include <functional>
#include <string>
#include "../../llmc/io/files.h"
#include "../test.h"

namespace {
extern const std::string SCRATCH;

void prepare() {
    remove_tree(SCRATCH);
    make_folders(SCRATCH);
    std::string text;
    for (int i = 0; i < 3000; i++) text += format("Line %d says %d.\n", i % 97, i * 7 % 13) + (i % 10 ? "" : "<|endoftext|>");
    write_file_atomically(SCRATCH + "/text.txt", text);
}
std::string trainer(const std::string& rest) { return std::string(TRAINER) + " -b 2 -t 16 -v 0 -s 0 --threads 1 " + rest; }
[[maybe_unused]] std::string text_run(const std::string& out, const std::string& rest) {
    return trainer(format("-i %s/text.txt -o %s/%s -e d1c16h1 %s", SCRATCH.c_str(), SCRATCH.c_str(), out.c_str(), rest.c_str()));
}
bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }
[[maybe_unused]] bool exists(const std::string& path) { return access((SCRATCH + "/" + path).c_str(), F_OK) == 0; }
std::string contents(const std::string& path) {
    std::string text;
    try_read_file(SCRATCH + "/" + path, text);
    return text;
}
Outcome must(const std::string& command) {
    Outcome o = run_command(command);
    if (o.code) FAIL("%s: exit code %d: %s", command.c_str(), o.code, o.output.c_str());
    return o;
}
[[maybe_unused]] Outcome one_line(const std::string& command, int code, const std::string& says) {
    Outcome o = run_command("timeout -s KILL 60 " + command);
    if (o.code != code || !has(o.output, says) || o.output.find('\n') != o.output.size() - 1)
        FAIL("%s: exit code %d, said \"%s\", expected %d, one line with \"%s\"", command.c_str(), o.code, o.output.c_str(), code, says.c_str());
    return o;
}

// A command in the background, both streams to SCRATCH/said unless they go to `out_fd`. Killed at the end, by its id.
class Process {
    pid_t pid;
    int status = 0;
    bool ended = false;

  public:
    explicit Process(const std::string& command, int out_fd = -1, void (*hup)(int) = SIG_DFL) {
        fflush(nullptr);
        unlink((SCRATCH + "/said").c_str());  // an earlier process's
        pid = fork();
        if (pid) return;
        int said = out_fd >= 0 ? out_fd : open((SCRATCH + "/said").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
        dup2(said, 1), dup2(said, 2);
        for (int fd = 3; fd < 64; fd++) close(fd);
        signal(SIGHUP, hup);
        execl("/bin/sh", "sh", "-c", ("exec " + command).c_str(), (char*)nullptr);
        _exit(127);
    }
    ~Process() { if (!ended) kill(pid, SIGKILL), waitpid(pid, &status, 0); }
    long id() const { return pid; }
    void send(int signal) const { kill(pid, signal); }
    bool runs() {
        if (!ended) ended = waitpid(pid, &status, WNOHANG) == pid;
        return !ended;
    }
    bool wait_for(const std::function<bool()>& condition, double seconds = 60) {
        for (int i = 0; i < (int)(seconds * 50) && runs(); i++) {
            if (condition()) return true;
            usleep(20000);
        }
        return condition();
    }
    bool says(const std::string& part) { return wait_for([&] { return has(contents("said"), part); }); }
    int code(double seconds = 30) {  // -1: it still runs
        for (int i = 0; i < (int)(seconds * 50) && runs(); i++) usleep(20000);
        if (runs()) return -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
};
}  // namespace
