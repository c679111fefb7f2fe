// test.h: the whole test framework. TEST(name) { EXPECT(...); }
//     build/tests [part of a name]        build/tests --list [part of a name]        build/tests --only NAME
//     build/tests --jobs N                N files of tests at a time: those of one file share their scratch folder
#pragma once
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <atomic>
#include <chrono>
#include <cstdarg>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <new>
#include <string>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
constexpr bool SANITIZED = true;
#else
constexpr bool SANITIZED = false;
#endif

struct Test { const char* file; const char* name; void (*run)(); };
inline std::vector<Test>& all_tests() { static std::vector<Test> tests; return tests; }
inline int g_failures = 0;           // in the test that runs now
inline std::string g_skip_reason;    // set by SKIP
inline std::string g_test_name;      // of the test that runs now: file.name

#define TEST(name)                                                                              \
    static void test_##name();                                                                  \
    static bool registered_##name = (all_tests().push_back({__FILE__, #name, test_##name}), true); \
    static void test_##name()

// A failure is reported and the test goes on, ten lines of it at most.
[[gnu::format(printf, 3, 4)]] inline void fail(const char* file, int line, const char* format, ...) {
    if (++g_failures > 10) return;
    printf("  %s:%d: ", file, line);
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
}
#define FAIL(...) fail(__FILE__, __LINE__, __VA_ARGS__)
#define EXPECT(condition) do { if (!(condition)) FAIL("expected %s", #condition); } while (0)
#define EXPECT_EQ(a, b) do { auto va_ = (a); decltype(va_) vb_ = (b); \
    if (!(va_ == vb_)) FAIL("%s != %s (%g, %g)", #a, #b, (double)va_, (double)vb_); } while (0)
#define EXPECT_STR(a, b) do { std::string va_ = (a), vb_ = (b); \
    if (va_ != vb_) FAIL("%s is \"%s\", expected \"%s\"", #a, va_.c_str(), vb_.c_str()); } while (0)
// A skipped test says why, and is counted.
#define SKIP(...) do { char text_[512]; snprintf(text_, sizeof text_, __VA_ARGS__); g_skip_reason = text_; return; } while (0)
// What only the host does differently from other runs: no access of a kernel is new, and looking at each of them again takes half a minute.
#define HOST_ALONE() if (strstr(BUILD, "watch")) SKIP("its kernels are watched in other tests")

// ||a - b|| / ||b||: the error of a whole tensor against the oracle b. NaN or a NaN-like ratio never passes.
template <class A, class B> double relative_error(const A* a, const B* b, size_t n) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        double x = (double)(float)a[i], y = (double)b[i];
        difference += (x - y) * (x - y), norm += y * y;
    }
    return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}
#define EXPECT_CLOSE(a, b, n, tolerance) do { double e_ = relative_error(a, b, n); \
    if (!(e_ <= (tolerance))) FAIL("%s: relative error %.3g > %.3g", #a, e_, (double)(tolerance)); } while (0)

// What a child process ended with: its exit code (128 + signal if killed), what it printed on both streams, and its peak resident memory (at least what
// this process had when it forked).
struct Outcome { int code; std::string output; double peak_mib; };
struct Child { pid_t pid; int output; };
// Begins to run `body` in one. Not from a thread: what another one holds at that moment, the sanitizers' allocator say, is held for ever in the child.
inline Child start_child(const std::function<void()>& body) {
    int fd[2];
    fflush(nullptr);
    if (pipe(fd)) abort();
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fd[1], 1), dup2(fd[1], 2), close(fd[0]), close(fd[1]);
        setvbuf(stdout, nullptr, _IOLBF, 0);  // a body may end without a flush
        body();
        fflush(nullptr);
        _exit(0);
    }
    close(fd[1]);
    return {pid, fd[0]};
}
inline Outcome outcome_of(const Child& child) {
    Outcome outcome{};
    char buffer[4096];
    for (ssize_t n; (n = read(child.output, buffer, sizeof buffer)) > 0;) outcome.output.append(buffer, (size_t)n);
    close(child.output);
    int status = 0;
    struct rusage usage;
    wait4(child.pid, &status, 0, &usage);
    outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), outcome.peak_mib = (double)usage.ru_maxrss / 1024;
    return outcome;
}
inline Outcome run_child(const std::function<void()>& body) { return outcome_of(start_child(body)); }
inline Outcome run_command(const std::string& command) {
    return run_child([&] { execl("/bin/sh", "sh", "-c", command.c_str(), (char*)nullptr); });
}
// `statement` must end the process with one line that contains `text`.
#define EXPECT_DIES(text, ...) do { Outcome o_ = run_child([&] { __VA_ARGS__; }); \
    if (o_.code != 1 && o_.code != 2) FAIL("%s: exit code %d, expected an error", #__VA_ARGS__, o_.code); \
    else if (o_.output.find(text) == std::string::npos || o_.output.find('\n') != o_.output.size() - 1) \
        FAIL("%s: said \"%s\", expected one line with \"%s\"", #__VA_ARGS__, o_.output.c_str(), text); } while (0)

// What the processes that run tests share.
struct TestCounts {
    std::atomic<int> passed{0}, failed{0}, skipped{0};
    std::atomic<size_t> next_file{0};
};
inline std::string name_of(const Test& test) {
    const std::string file = strrchr(test.file, '/') ? strrchr(test.file, '/') + 1 : test.file;
    return file.substr(0, file.rfind('.')) + "." + test.name;
}
inline void run_test(const Test& test, TestCounts& counts) {
    g_failures = 0, g_skip_reason.clear(), g_test_name = name_of(test);
    const auto start = std::chrono::steady_clock::now();
    test.run();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const char* verdict = g_failures ? "FAILED" : g_skip_reason.empty() ? "ok" : "skipped";
    printf("%-7s %-52s %6.2f s  %s\n", verdict, name_of(test).c_str(), seconds, g_skip_reason.c_str());
    fflush(stdout);
    (g_failures ? counts.failed : g_skip_reason.empty() ? counts.passed : counts.skipped)++;
}
// Files of tests go to whoever is free, the last ones first: the trainer's, which take longest.
inline void run_files(const std::vector<std::vector<Test>>& files, int jobs, TestCounts& counts) {
    const auto work = [&] {
        for (size_t i; (i = counts.next_file++) < files.size();)
            for (const Test& test : files[files.size() - 1 - i]) run_test(test, counts);
    };
    if (jobs <= 1) return work();
    std::vector<pid_t> workers;
    fflush(nullptr);
    for (int i = 0; i < jobs; i++) {
        const pid_t pid = fork();
        if (pid < 0) abort();
        if (pid == 0) {
            setvbuf(stdout, nullptr, _IOFBF, 1 << 16);  // what a test says stays together
            work();
            exit(0);
        }
        workers.push_back(pid);
    }
    for (pid_t pid : workers) {
        int status = 0;
        waitpid(pid, &status, 0);
        if (status == 0) continue;
        printf("FAILED  a process of tests ended with %s %d\n", WIFSIGNALED(status) ? "signal" : "exit code", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        counts.failed++;
    }
}

inline int run_tests(int argc, char** argv) {
    setvbuf(stdout, nullptr, _IOLBF, 0);
    int jobs = 1, at = 1;
    if (argc > at + 1 && !strcmp(argv[at], "--jobs")) jobs = atoi(argv[at + 1]), at += 2;
    const bool list = argc > at && !strcmp(argv[at], "--list"), only = argc > at && !strcmp(argv[at], "--only");
    at += list || only;
    const char* wanted = argc > at ? argv[at] : "";
    std::vector<std::vector<Test>> files;
    for (const Test& test : all_tests()) {
        const std::string name = name_of(test);
        if (only ? name != wanted : name.find(wanted) == std::string::npos) continue;
        if (list) printf("%s\n", name.c_str());
        if (files.empty() || strcmp(files.back()[0].file, test.file)) files.emplace_back();
        files.back().push_back(test);
    }
    if (list) return 0;
    void* shared = mmap(nullptr, sizeof(TestCounts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) abort();
    TestCounts& counts = *new (shared) TestCounts;
    run_files(files, jobs, counts);
    size_t selected = 0;
    for (const std::vector<Test>& file : files) selected += file.size();
    if ((size_t)(counts.passed + counts.failed + counts.skipped) < selected && counts.failed == 0) printf("FAILED  a test ended its process\n"), counts.failed++;
    printf("%d passed, %d failed, %d skipped\n", counts.passed.load(), counts.failed.load(), counts.skipped.load());
    return only && counts.skipped ? 77 : counts.failed > 0 || counts.passed == 0;
}
