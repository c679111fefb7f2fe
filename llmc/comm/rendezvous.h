// rendezvous.h: how ranks that were started apart find each other. Rank 0 has a blob of some bytes to some KB (an ncclUniqueId), and every rank
// returns with it, once all of them have come; or the process ends with a line that names who did not. Over TCP: tcp_rendezvous.h; by a folder
// that all can read and write: folder_rendezvous.h. Here is what both need.
#pragma once
#include <poll.h>
#include <sys/random.h>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>
#include "../base/check.h"
#include "../base/stop.h"

constexpr size_t RENDEZVOUS_BYTES = 1 << 20;  // that a blob may have: an id for each of 1024 ranks, and room

namespace rendezvous_detail {
inline double seconds() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// Slurm's `srun --kill-on-bad-exit` asks the ranks that wait to end when one has failed, and returns the highest exit code of all: not 128 + the signal,
// which would hide a configuration error of the one. Rank 0 says it.
inline void fail_if_stopping() {
    if (!stop_requested()) return;
    if (g_rank > 0) _Exit(EXIT_FAILED);
    die("interrupted while the ranks were finding each other");
}

inline std::string random_bytes(size_t n) {
    std::string bytes(n, '\0');
    for (size_t at = 0; at < n;) {
        const ssize_t got = getrandom(bytes.data() + at, n - at, 0);
        if (got < 0 && errno != EINTR) die("getrandom: %s", strerror(errno));
        if (got > 0) at += (size_t)got;
    }
    return bytes;
}

// Pauses between looks, each twice as long as the last one up to a limit: quick when all come together, cheap when one is late. Half of each
// pause is random, so that ranks which started together do not knock together.
class Backoff {
    double first_, pause_, longest_;

  public:
    Backoff(double first_s, double longest_s) : first_(first_s), pause_(first_s), longest_(longest_s) {}
    void reset() { pause_ = first_; }
    // Returns at `deadline` at the latest.
    void wait(double deadline) {
        fail_if_stopping();
        const double part = 0.5 + 0.5 * (double)(unsigned char)random_bytes(1)[0] / 255;
        const double s = std::clamp(deadline - seconds(), 0.0, pause_ * part);
        poll(nullptr, 0, (int)(s * 1000) + 1);  // a signal ends it early
        pause_ = std::min(2 * pause_, longest_);
    }
};

// "rank 3", "ranks 1, 4 to 6"
inline std::string ranks_text(const std::vector<int>& ranks) {
    std::string text = ranks.size() == 1 ? "rank " : "ranks ";
    for (size_t i = 0, end; i < ranks.size(); i = end + 1) {
        for (end = i; end + 1 < ranks.size() && ranks[end + 1] == ranks[end] + 1;) end++;
        if (end == i + 1) end = i;  // two are named each
        text += (i ? ", " : "") + std::to_string(ranks[i]) + (end > i ? " to " + std::to_string(ranks[end]) : "");
    }
    return text;
}

inline std::string limit_text(double timeout_s) { return format("within %g s", timeout_s); }
}  // namespace rendezvous_detail
