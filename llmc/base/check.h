// check.h: one way to stop. Every error a user can cause ends here, in one line.
#pragma once
#include <cxxabi.h>
#include <unistd.h>
#include <atomic>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <string>
#include <typeinfo>

inline int g_rank = 0, g_world = 1;  // set by comm.h; here so that an error can say who speaks

inline volatile sig_atomic_t g_stop_signal = 0;  // set by stop.h: the signal that asked this process to stop

inline void (*g_before_death)() = nullptr;  // what die does last; safe from any thread

constexpr int EXIT_FAILED = 1;  // the work failed: a file, a disk, a device
constexpr int EXIT_USAGE = 2;   // the command line was wrong: nothing was allocated or written

// A newline in a name would make two lines of one, and other control bytes speak to the terminal: they are shown, as \n, \x1b or \xc2\x9b. What does not
// fit is cut. Without memory of its own: there may be none left.
inline void show_on_one_line(char* out, size_t size, const char* text) {
    const auto put = [&](char c) { if (size > 1) *out++ = c, size--; };
    for (const unsigned char* c = (const unsigned char*)text; *c; c++) {
        const bool two = c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0;  // the control characters of 8-bit terminals, in UTF-8
        if (*c == '\n') put('\\'), put('n');
        else if (*c < 0x20 || *c == 0x7f || two)
            for (int i = 0; i <= two; i++) put('\\'), put('x'), put("0123456789abcdef"[c[i] >> 4]), put("0123456789abcdef"[c[i] & 15]);
        else put((char)*c);
        c += two;
    }
    *out = 0;
}
inline std::string on_one_line(const std::string& text) {
    std::string shown(4 * text.size() + 1, 0);
    show_on_one_line(shown.data(), shown.size(), text.c_str());
    shown.resize(strlen(shown.c_str()));
    return shown;
}

// Of threads that die at once, as on a disk that is full, the first one says why.
inline std::atomic_flag g_dying;
inline thread_local bool g_dies_here = false;
inline void be_the_only_one_that_dies(int code) {
    if (g_dies_here) _Exit(code);
    g_dies_here = !g_dying.test_and_set();
    while (!g_dies_here) pause();
}

// Prints one line on stderr, with the rank in front when there are several, and ends the process at once: no
// destructors, so it is safe from any thread.
[[noreturn, gnu::format(printf, 2, 3)]] inline void die_with(int code, const char* format, ...) {
    be_the_only_one_that_dies(code);
    fflush(stdout);
    char text[4096], line[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    show_on_one_line(line, sizeof line, text);
    // What is wrong on every rank, rank 0 says. The launcher then asks the others to end: a signal ends their wait, and nothing is said twice.
    // before this failed, and not what ends it: that says nothing of who failed; a wrong command line is wrong on rank 0 too, which may have ended already
    const bool was_asked = g_stop_signal && code != 128 + g_stop_signal && code != EXIT_USAGE;
    for (int wait = 0; g_rank > 0 && wait < 60; wait++) {
        if (g_stop_signal && !was_asked) _Exit(code);
        usleep(10'000);
    }
    if (g_world > 1) fprintf(stderr, "error: rank %d: %s\n", g_rank, line);
    else             fprintf(stderr, "error: %s\n", line);
    fflush(nullptr);
    if (g_before_death) g_before_death();
    _Exit(code);
}
// Another rank says why.
[[noreturn]] inline void end_silently(int code) {
    usleep(2'000'000);  // its line, which may wait as above, comes first: a launcher ends all when one has ended
    if (g_before_death) g_before_death();
    _Exit(code);
}
#define die(...) die_with(EXIT_FAILED, __VA_ARGS__)

// First thing in main: where memory, threads or the like end, the program does with one line. No exception is caught anywhere.
inline void die_when_memory_ends() {
    std::set_new_handler([] { die("out of memory"); });
    std::set_terminate([] {
        const std::type_info* type = abi::__cxa_current_exception_type();
        die("out of memory, threads or another resource (%s)", type ? type->name() : "terminate");
    });
}

// An assumption, checked where it is used: CHECK(C % 8 == 0, "C = %d: 16-byte loads need a multiple of 8", C);
#define CHECK(condition, ...) do { if (!(condition)) die(__VA_ARGS__); } while (0)

[[gnu::format(printf, 1, 2)]] inline std::string format(const char* pattern, ...) {
    char text[4096];
    va_list args;
    va_start(args, pattern);
    vsnprintf(text, sizeof text, pattern, args);
    va_end(args);
    return text;
}
