// parts.h: the parts of an exercise's file, and the child process that one of them runs in.
#pragma once
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include "../../llmc/io/files.h"
#include "grade.h"

namespace learn {
struct Section { std::string title; std::vector<int> blanks; int first, last; };  // of the file: // ---- N. title; blanks, first, last: numbers of lines

inline std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    for (size_t at = 0, end; at < text.size(); at = end + 1) {
        end = std::min(text.find('\n', at), text.size());
        lines.push_back(text.substr(at, end - at));
    }
    return lines;
}
inline std::vector<Section> sections_of(const std::vector<std::string>& lines) {
    std::vector<Section> sections;
    for (size_t i = 0; i < lines.size(); i++) {
        const int number = (int)i + 1;
        if (lines[i].starts_with("// ---- ")) sections.push_back({lines[i].substr(8), {}, number, number});
        if (sections.empty()) continue;
        const size_t at = lines[i].find("BLANK"), comment = lines[i].find("//");
        if (at != std::string::npos && at < comment) sections.back().blanks.push_back(number);
        sections.back().last = number;
    }
    return sections;
}
// As wide as the longest title, so that verdicts stand below each other.
inline int width_of(const std::vector<Section>& sections) {
    size_t width = 0;
    for (const Section& s : sections) width = std::max(width, s.title.size());
    return (int)width;
}

// What a child wrote, and its exit code, 128 + signal if that ended it.
struct Ended { int code; std::string said; };
inline Ended in_child(const std::function<void()>& body) {
    int out[2];
    fflush(nullptr);
    CHECK(!pipe(out), "pipe: %s", strerror(errno));
    const pid_t pid = fork();
    CHECK(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        dup2(out[1], 1), dup2(out[1], 2), close(out[0]), close(out[1]);
        body();
        _exit(0);
    }
    close(out[1]);
    Ended ended{};
    char buffer[4096];
    for (ssize_t n; (n = read(out[0], buffer, sizeof buffer)) > 0;) ended.said.append(buffer, (size_t)n);
    close(out[0]);
    int status = 0;
    waitpid(pid, &status, 0);
    ended.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return ended;
}
// In memory that children share.
inline Result* shared_result() { return (Result*)mmap(nullptr, sizeof(Result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); }
}  // namespace learn
