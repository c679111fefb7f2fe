// log.h: what a run says: a line a step on the terminal, OUT/main.log for old plotting scripts, and OUT/metrics.jsonl with
// one object a step, a validation, an evaluation and a sample.
#pragma once
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include "../base/check.h"
#include "../base/text_format.h"
#include "../io/files.h"
#include "../io/json.h"

using Clock = std::chrono::steady_clock;
inline double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Scores as shares of the questions, each beside what guessing scores: a choice among n is right once in n times, a completion never.
inline std::string eval_scores(double acc, double acc_norm, double chance, double completions) {
    std::string text = format("acc %.1f%% (chance %.1f%%), acc_norm %.1f%% (chance %.1f%%)", 100 * acc, 100 * chance, 100 * acc_norm, 100 * chance);
    return completions >= 0 ? text + format(", completions %.1f%% (chance 0%%)", 100 * completions) : text;
}

// A file to which whole lines are added. Not open, it takes nothing.
class LogFile {
    std::string path_;
    int fd_ = -1;
    int64_t bytes_ = 0;

    void must(bool done, const char* what) const { CHECK(done, "%s: cannot %s: %s", path_.c_str(), what, strerror(errno)); }

public:
    LogFile() = default;
    LogFile(const LogFile&) = delete;
    ~LogFile() { if (fd_ >= 0) close(fd_); }

    void open(const std::string& path) {
        path_ = path, fd_ = open_file(path, O_RDWR | O_CREAT);
        must(fd_ >= 0, "write");
    }
    int64_t bytes() const { return bytes_; }

    // Keeps the first bytes of it. Where it holds less, as after a power loss, or not whole lines, what is there is kept, which is returned as a line to say.
    std::string cut(int64_t keep) {
        if (fd_ < 0) return "";
        struct stat info;
        must(!fstat(fd_, &info), "look at it");
        bytes_ = std::min<int64_t>(keep, info.st_size);
        for (char last = 0; bytes_ > 0; bytes_--) {
            must(uninterrupted([&] { return pread(fd_, &last, 1, bytes_ - 1); }) == 1, "read");
            if (last == '\n') break;
        }
        must(!uninterrupted([&] { return ftruncate(fd_, bytes_); }), "cut");
        return bytes_ == keep ? "" : format("%s: holds whole lines up to byte %lld, must hold them up to %lld: goes on from there, what is missing is lost", path_.c_str(),
                                            (long long)bytes_, (long long)keep);
    }
    void write(const std::string& text) {
        for (size_t done = 0; fd_ >= 0 && done < text.size();) {
            const ssize_t n = uninterrupted([&] { return pwrite(fd_, text.data() + done, text.size() - done, bytes_); });
            must(n > 0, "write");
            done += (size_t)n, bytes_ += n;
        }
    }
    void sync() { must(fd_ < 0 || sync_file(fd_) || errno == EINVAL, "sync"); }
};

class Log {
public:
    // Where the two files end: a checkpoint keeps it, and resuming cuts them back to it, so that the log of a resumed run
    // is the log of the undisturbed one.
    struct Position { int64_t main_log = 0, metrics = 0; };

    // No folder, no files. An undisturbed run starts them afresh (position zero).
    Log(const std::string& folder, bool speaks_, Position from) : speaks(speaks_) {
        if (folder.empty() || !speaks) return;
        main_log.open(folder + "/main.log"), metrics.open(folder + "/metrics.jsonl");
        fsync_dir(folder);  // a checkpoint counts on their names too
        cut(from);
    }

    Position position() const { return {main_log.bytes(), metrics.bytes()}; }
    void cut(Position to) {
        for (const std::string& said : {main_log.cut(to.main_log), metrics.cut(to.metrics)}) if (!said.empty()) say(said);
    }
    // Before a checkpoint that counts on what they hold.
    void sync() { main_log.sync(), metrics.sync(); }

    static Position end_of(const std::string& folder) {
        struct stat main_log, metrics;
        return {stat((folder + "/main.log").c_str(), &main_log) ? 0 : (int64_t)main_log.st_size, stat((folder + "/metrics.jsonl").c_str(), &metrics) ? 0 : (int64_t)metrics.st_size};
    }

    // One JSON object as a line of metrics.jsonl.
    void record(const std::string& object) { metrics.write(object + "\n"); }

    // steps 0: not known, as the clock decides. lr has as many digits as give back the float that the update takes: --replay reads it. skipped: why, if
    // its update was.
    struct Step { int step, steps; double loss, norm, lr, seconds, tokens, flops, peak, seconds_left; std::string skipped; };
    void step(const Step& s) {
        double rate = s.flops / s.seconds;
        const std::string nine = number(s.lr), lr = strtof(nine.c_str(), nullptr) == (float)s.lr ? nine : format("%.17g", s.lr);
        main_log.write(format("s:%d trl:%.6f lr:%.6g norm:%.4f\n", s.step, s.loss, strtod(lr.c_str(), nullptr), s.norm));
        record(format("{\"step\": %d, \"loss\": %s, \"lr\": %s, \"grad_norm\": %s, \"ms\": %.3f, \"tokens_per_s\": %s, "
                      "\"flops_per_s\": %s, \"mfu\": %s%s}", s.step, number(s.loss).c_str(), lr.c_str(),
                      number(s.norm).c_str(), 1e3 * s.seconds, number(s.tokens / s.seconds, 1).c_str(), number(rate, 0).c_str(), number(rate / s.peak, 4).c_str(),
                      s.skipped.empty() ? "" : (", \"skipped\": " + json_quote(s.skipped)).c_str()));
        if (!speaks) return;
        const std::string all = s.steps ? std::to_string(s.steps) : "";
        printf("step %*d%s  loss %.4f  norm %.3f  lr %.2e  %.*f ms  %s tok/s  %sFLOP/s  %.0f%% of peak  %s left\n", (int)all.size(),
               s.step, s.steps ? ("/" + all).c_str() : "", s.loss, s.norm, s.lr, s.seconds < 0.01, 1e3 * s.seconds, human(s.tokens / s.seconds).c_str(),
               human(rate).c_str(), 100 * rate / s.peak, clock_text(s.seconds_left).c_str());
        fflush(stdout);
    }

    // bits_per_byte and floor: NaN where unknown.
    void val(int step, double loss, double bits_per_byte, double floor) {
        main_log.write(format("s:%d tel:%.6f\n", step, loss));
        record(format("{\"step\": %d, \"val_loss\": %s, \"val_bits_per_byte\": %s%s}", step, number(loss).c_str(),
                      number(bits_per_byte).c_str(),
                      floor > 0 ? format(", \"floor_bits_per_byte\": %s", number(floor).c_str()).c_str() : ""));
        std::string line = format("val loss %.4f", loss);
        if (bits_per_byte > 0) line = format("val %.3f bits/byte", bits_per_byte) + (floor > 0
            ? format(", floor %.3f (%.2fx)", floor, bits_per_byte / floor) : format(", loss %.4f", loss));
        say(line);
    }

    // Of questions: how many are right by each count; greedy -1: nothing was completed. Of documents: bits and bytes. cut: items that are
    // longer than the context.
    struct Eval { std::string name; int total, acc = 0, acc_norm = 0, greedy = -1; double chance = 0, bits = 0, bytes = 0; int cut = 0, context = 0; };
    void eval(int step, const Eval& e) {
        const char* name = e.name.c_str();
        const std::string cut = e.cut ? format(", \"cut\": %d", e.cut) : "";
        if (e.cut) say(format("%s: the beginning of %d of %d items was cut: the model's context is %d", name, e.cut, e.total, e.context));
        if (e.bytes > 0) {
            const double bits = e.bits / e.bytes;
            main_log.write(format("s:%d eval:%.6f\n", step, bits));
            record(format("{\"step\": %d, \"eval\": \"%s\", \"bits_per_byte\": %s, \"bytes\": %.0f%s}", step, name, number(bits).c_str(), e.bytes, cut.c_str()));
            return say(format("%s: %.4f bits/byte", name, bits));
        }
        const int right = e.greedy >= 0 ? e.greedy : e.acc_norm;
        const double n = e.total;
        const std::string completed = e.greedy >= 0 ? format(", \"completions\": %.6f", e.greedy / n) : "";
        main_log.write(format("s:%d eval:%.6f\n", step, right / n));
        record(format("{\"step\": %d, \"eval\": \"%s\", \"accuracy\": %.6f, \"right\": %d, \"total\": %d, \"chance\": %.6f, \"acc\": %.6f, "
                      "\"acc_norm\": %.6f%s%s}", step, name, right / n, right, e.total, e.chance / n, e.acc / n, e.acc_norm / n, completed.c_str(), cut.c_str()));
        say(format("%s: %d questions: %s", name, e.total, eval_scores(e.acc / n, e.acc_norm / n, e.chance / n, e.greedy >= 0 ? e.greedy / n : NAN).c_str()));
    }

    // Prompt and continuation, of any length and with any bytes.
    void sample(int step, const std::string& text) { record("{\"step\": " + std::to_string(step) + ", \"sample\": " + json_quote(text) + "}"); }

    void say(const std::string& line) {
        if (speaks) printf("%s\n", on_one_line(line).c_str()), fflush(stdout);
    }

    // NaN and infinity do not exist in JSON
    static std::string number(double x) { return std::isfinite(x) ? format("%.9g", x) : "null"; }
    static std::string number(double x, int decimals) { return std::isfinite(x) ? format("%.*f", decimals, x) : "null"; }  // a step may take no time by a coarse clock

private:
    bool speaks;
    LogFile main_log, metrics;
};
