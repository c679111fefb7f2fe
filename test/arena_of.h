// arena_of.h: the memory of a trainer that runs, to be damaged from outside: its largest mapping is the arena.
#pragma once
#include <fcntl.h>
#include <unistd.h>
#include <string>
#include "test.h"

class ArenaOf {
    int memory_ = -1;
    unsigned long begin_ = 0, end_ = 0;

  public:
    explicit ArenaOf(const std::string& process) {
        unsigned long from, to;
        const std::string maps = run_command("grep rw-p /proc/" + process + "/maps").output;
        for (size_t at = 0; at < maps.size(); at = maps.find('\n', at) + 1)
            if (sscanf(&maps[at], "%lx-%lx", &from, &to) == 2 && to - from > end_ - begin_) begin_ = from, end_ = to;
        memory_ = open(("/proc/" + process + "/mem").c_str(), O_RDWR | O_CLOEXEC);
    }
    ArenaOf(const ArenaOf&) = delete;
    ~ArenaOf() { if (memory_ >= 0) close(memory_); }
    bool is_open() const { return memory_ >= 0; }
    size_t bytes() const { return end_ - begin_; }
    template <class X> bool read(size_t at, X& x) const { return pread(memory_, &x, sizeof x, (off_t)(begin_ + at)) == (ssize_t)sizeof x; }
    template <class X> bool write(size_t at, const X& x) const { return pwrite(memory_, &x, sizeof x, (off_t)(begin_ + at)) == (ssize_t)sizeof x; }
};
