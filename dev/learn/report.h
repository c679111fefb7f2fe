// report.h: runs the parts of an exercise, each in a child process, and says in a few lines what happened: which element, which lines, what the usual cause is.
#pragma once
#include <dlfcn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../llmc/io/files.h"
#include "grade.h"

namespace learn {
struct Section { std::string title; std::vector<int> blanks; };  // of the file: // ---- N. title

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
        if (lines[i].starts_with("// ---- ")) sections.push_back({lines[i].substr(8), {}});
        const size_t at = lines[i].find("BLANK"), comment = lines[i].find("//");
        if (at != std::string::npos && at < comment && !sections.empty()) sections.back().blanks.push_back((int)i + 1);
    }
    return sections;
}

class Report {
public:
    Report(const char* name, const char* file) : name_(name), file_(file), lines_(lines_of(read_file(file))), sections_(sections_of(lines_)) {
        result_ = (Result*)mmap(nullptr, sizeof(Result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    }

    int grade(const std::vector<Part>& parts) {
        CHECK(sections_.size() == parts.size(), "%s: %zu parts begin with '// ---- N. title', must be %zu: is one of these lines missing? git checkout %s", file_.c_str(),
              sections_.size(), parts.size(), file_.c_str());
        printf("%s: %s\n", name_.c_str(), file_.c_str());
        size_t done = 0, next = parts.size();
        for (size_t i = 0; i < parts.size(); i++) {
            const bool ok = sections_[i].blanks.empty() ? grade_part(parts[i], sections_[i].title) : say_blank(sections_[i]);
            done += ok;
            if (!ok && next == parts.size()) next = i;
        }
        printf("%zu of %zu parts are done", done, parts.size());
        if (next < parts.size()) printf("; next: part %zu. A hint: make learn-%s HINT=%zu.1", next + 1, name_.c_str(), next + 1);
        printf("\n");
        return done == parts.size() ? 0 : 1;
    }

private:
    static constexpr int ORDERS = 4;  // of threads
    static constexpr int CPU_SECONDS = 20;  // of a part at one size, which takes one or two
    struct Ended { int code; std::string said; };

    bool say(const std::string& title, const char* verdict, const std::vector<std::string>& details) {
        printf("%-44s %s\n", title.c_str(), verdict);
        for (const std::string& d : details) if (!d.empty()) printf("    %s\n", d.c_str());
        return !strcmp(verdict, "ok");
    }
    bool say_blank(const Section& s) {
        std::string where;
        for (int line : s.blanks) where += format("%s%d", where.empty() ? "" : ", ", line);
        return say(s.title, "blank", {format("to fill: line%s %s", s.blanks.size() > 1 ? "s" : "", where.c_str())});
    }

    Ended run_in_child(const Part& part, Size size, int orders) {
        memset(result_, 0, sizeof *result_);
        int out[2];
        fflush(nullptr);
        CHECK(!pipe(out), "pipe: %s", strerror(errno));
        const pid_t pid = fork();
        CHECK(pid >= 0, "fork: %s", strerror(errno));
        if (pid == 0) {
            dup2(out[1], 1), dup2(out[1], 2), close(out[0]), close(out[1]);
            const rlimit seconds = {CPU_SECONDS, CPU_SECONDS};
            setrlimit(RLIMIT_CPU, &seconds);  // a loop that never ends
            std::vector<std::vector<uint32_t>> bits;
            for (int order = 1; order <= orders; order++) {
                emu::set_seed((uint64_t)order);
                Trial trial(*result_, bits, order);
                part.grade(trial, size);
            }
            result_->finished = true;
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

    bool grade_part(const Part& part, const std::string& title) {
        double worst = 0;
        for (size_t i = 0; i < part.sizes.size(); i++) {
            const Size size = part.sizes[i];
            const bool large = i > 0 && i + 1 == part.sizes.size();  // takes longest
            const Ended ended = run_in_child(part, size, part.cuda && !large ? ORDERS : 2);
            const std::string at = format("at N=%d, C=%d: ", size.N, size.C);
            const Result& r = *result_;
            if (!r.finished) return say_ended(title, at, ended);
            if (*r.wrong) return say(title, "WRONG", {at + r.wrong, *r.cause ? format("that is what comes out if %s", r.cause) : part.cuda && !r.launches ? "no kernel ran: is the number of blocks 0?" : ""});
            if (*r.unrepeatable) return say(title, "NOT REPEATABLE", {at + r.unrepeatable, "sums of floats depend on their order, and atomicAdd adds in the order in which threads arrive: let one thread add, in a fixed order"});
            worst = std::fmax(worst, r.worst);
        }
        const std::string right = format("right at %zu size%s, largest error %.2g of what rounding may do, same bits in %d %s", part.sizes.size(), part.sizes.size() == 1 ? "" : "s", worst, part.cuda ? ORDERS : 2, part.cuda ? "orders of threads" : "runs");
        if (!part.cuda) return say(title, "ok", {right});
        const std::string slow = what_is_missed(part.limits);
        return say(title, slow.empty() ? "ok" : "SLOW", {right, costs(), slow});
    }

    // ---- what went wrong in a child that did not finish -------------------------------------------------------------------
    bool say_ended(const std::string& title, const std::string& at, const Ended& ended) {
        const std::string tag = "emulator: ";
        const size_t begin = ended.said.find(tag);
        if (begin == std::string::npos) {
            if (ended.code == 128 + SIGXCPU || ended.code == 128 + SIGKILL) return say(title, "HANGS", {at + format("not ended after %d seconds: does a loop's variable advance?", CPU_SECONDS)});
            return say(title, "CRASH", {at + (ended.code > 128 ? strsignal(ended.code - 128) : ended.said.substr(0, ended.said.find('\n')))});
        }
        std::string said = ended.said.substr(begin + tag.size());
        said = said.substr(0, said.find('\n'));
        const accesses::Record& r = result_->record;
        if (said.find("race in") != std::string::npos) {
            const bool reads_now = said.find("this one reads") != std::string::npos;
            const bool read_before = said.find("reads there") != std::string::npos;
            const accesses::Access& before = read_before ? r.read : r.wrote;
            return say(title, "RACE", {at + doing(before), "    and " + doing(r.now) + ", and nothing says which comes first", race_cause(before, r.now, reads_now, read_before)});
        }
        if (said.find("an atomic") != std::string::npos)  // which no call of the compiler announces
            return say(title, said.find("nobody") != std::string::npos ? "UNWRITTEN" : "OUTSIDE", {at + said.substr(said.find("an atomic"), said.find(" (") - said.find("an atomic")) + ", behind " + line(r.now.code), "memory that is added to must be set first, to 0"});
        if (said.find("nobody has written") != std::string::npos)
            return say(title, "UNWRITTEN", {at + doing(r.now) + ", which nobody has written", buffer_of(r.now.p) ? "is it an output that is added to, or does a loop leave elements out, or go too far?"
                                            : r.copies ? "a copy must be started, of all the tile's bytes and to this buffer, committed as a group and waited for by its own thread; then comes a barrier: which is missing?"
                                            : "is a barrier missing between the write and the read, or does a loop leave elements out, or go too far?"});
        if (said.find("dynamic shared") != std::string::npos)
            return say(title, "OUTSIDE", {at + doing(r.now) + ", outside of what the launch gives the block", "how many bytes does a block need: a row of floats for each of its warps?"});
        if (said.find("outside of") != std::string::npos) return say(title, "OUTSIDE", {at + doing(r.now), r.now.bytes > 4 ? "the last elements may be fewer than a whole access: take those one by one; and is there a thread behind the last row or column that should return?"
                                                                         : "is there a thread behind the last row or column that should return, or a stride that is too long?"});
        if (said.find("not aligned") != std::string::npos) return say(title, "NOT ALIGNED", {at + doing(r.now), format("%u bytes at once must begin at a multiple of %u bytes: at an index that is a multiple of %u", r.now.bytes, r.now.bytes, r.now.bytes / 4)});
        if (const size_t colon = said.find(": block ("); colon != std::string::npos) said = said.substr(colon + 2);  // without the kernel's name
        if (said.find("divergent") != std::string::npos || said.find("waits for ever") != std::string::npos || said.find("lanes of a warp") != std::string::npos || said.find("mask") != std::string::npos)
            return say(title, "DIVERGENT", {at + said, "barriers and warp operations are for all threads: does one of them return, or leave a loop, before the others?"});
        return say(title, "FAILED", {at + said});
    }
    // The last write and read are told from where the accesses lie: shared memory of a block, or device memory.
    std::string race_cause(const accesses::Access& before, const accesses::Access& now, bool reads_now, bool read_before) const {
        if (buffer_of(now.p)) {
            if (before.block != now.block) return "blocks cannot wait for each other: give each its own element, and let a second kernel add them";
            if (before.write && now.write) return "two threads write the same element: let one of them do it, or give each its own";
            const bool same_warp = before.thread / WARP == now.thread / WARP;
            return format("one thread reads what another writes: does each own its elements, or must %s stand between?", same_warp ? "__syncwarp(), as they are lanes of one warp," : "__syncthreads()");
        }
        if (read_before) return "a barrier is missing before shared memory is used again: others may still read it";
        if (reads_now) return "a barrier is missing between the write and the read: __syncthreads() for a block, __syncwarp() for a warp";
        return "two threads write the same place of shared memory: does the index depend on the thread?";
    }

    // ---- costs --------------------------------------------------------------------------------------------------------------
    static double ratio(double a, double b) { return b > 0 ? a / b : 0; }
    double per_access() const { return ratio((double)result_->record.bytes, (double)result_->record.accesses); }
    double sectors() const { return ratio((double)result_->record.sectors, (double)result_->record.fewest_sectors); }
    std::string costs() const {
        const Result& r = *result_;
        return format("bytes: asked %.2f, touched %.2f of the fewest; sectors %.2f of the fewest; %.1f bytes an access; %llu bank conflicts; %d launch%s", ratio(r.asked, r.fewest),
                      ratio(r.touched, r.fewest), sectors(), per_access(), (unsigned long long)r.record.conflicts, r.launches, r.launches == 1 ? "" : "es");
    }
    std::string what_is_missed(const Limits& l) const {
        const Result& r = *result_;
        const accesses::Place& s = r.record.worst_sectors;
        if (l.launches && r.launches > l.launches) return format("%d launches, must be %d: do it in one kernel", r.launches, l.launches);
        if (l.sectors > 0 && sectors() > l.sectors)
            return format("sectors: must be at most %.2f of the fewest. A warp in %s asks for %.1f where %.1f would do: neighbouring lanes should read neighbouring elements", l.sectors,
                          line(s.code).c_str(), ratio((double)s.asked, (double)s.requests), ratio((double)s.fewest, (double)s.requests));
        if (l.access > 0 && per_access() < l.access) return format("an access has %.1f bytes, must be %.0f: load_floats() and store_floats() take 16 at a time", per_access(), l.access);
        if (l.asked > 0 && ratio(r.asked, r.fewest) > l.asked) return format("bytes asked for: must be at most %.2f of the fewest: what is read twice can be kept", l.asked);
        if (l.touched > 0 && ratio(r.touched, r.fewest) > l.touched) return format("bytes touched: must be at most %.2f of the fewest: what one kernel writes for the next goes through memory", l.touched);
        if (l.overlap && !r.record.overlapped) return "no overlap: shared memory is never read while a copy is in flight. Start the next tile's copy before you wait for this one's, and leave one group in flight";
        if (l.no_conflicts && r.record.conflicts)
            return format("bank conflicts: %s wants %llu words of one bank at once: neighbouring lanes should use neighbouring words", line(r.record.worst_banks.code).c_str(), (unsigned long long)r.record.worst_banks.asked);
        return "";
    }

    // ---- places in the source and in memory -----------------------------------------------------------------------------------
    const Buffer* buffer_of(const char* p) const {
        const Buffer* nearest = nullptr;  // the last that begins before p, or a page before the first: what lies between is outside
        for (int i = 0; i < std::min(result_->n_buffers, (int)std::size(result_->buffers)); i++) {
            const Buffer& b = result_->buffers[i];
            if (p >= b.p - 4096 && p < b.p + b.n * 4 + 4096 && (!nearest || llabs(p - b.p) < llabs(p - nearest->p))) nearest = &b;
        }
        return nearest;
    }
    std::string doing(const accesses::Access& a) const {
        std::string what = "shared memory";
        if (const Buffer* b = buffer_of(a.p)) {
            const long i = (a.p - b->p) / 4, C = b->columns, last = i + (long)std::max(a.bytes / 4, 1u) - 1;
            const bool inside = a.p >= b->p && a.p + a.bytes <= b->p + b->n * 4;
            what = C && inside ? format("%s[%ld][%ld]", b->name, i / C, i % C) : format("%s[%ld]", b->name, i);
            if (!inside) what += (last > i ? format(" to %s[%ld]", b->name, last) : "") + format(", but it has %zu elements", b->n);
        }
        return format("%s: block %u, thread %d (lane %d of warp %d) %s %s", a.code == &accesses::ASYNC_COPY ? "an asynchronous copy" : line(a.code).c_str(), a.block, a.thread, a.thread % WARP, a.thread / WARP, a.write ? "writes" : "reads", what.c_str());
    }
    // The line of the exercise that the code was made from; what is inlined there has frames of its own.
    std::string line(const void* code) const {
        Dl_info info;
        if (!code || !dladdr(code, &info)) return "a line";
        FILE* pipe = popen(format("addr2line -i -e /proc/%d/exe 0x%zx 2>/dev/null", getpid(), (size_t)((const char*)code - (const char*)info.dli_fbase) - 1).c_str(), "r");
        std::string first, here;
        const std::string own = file_.substr(file_.rfind('/') + 1);
        char text[1024];
        while (pipe && fgets(text, sizeof text, pipe)) {
            text[strcspn(text, " (\n")] = 0;
            const std::string frame = text, place = frame.substr(frame.rfind('/') + 1);
            if (first.empty()) first = place;
            if (here.empty() && place.starts_with(own + ":")) here = place.substr(own.size() + 1);
        }
        if (pipe) pclose(pipe);
        if (here.empty()) return first.empty() || first[0] == '?' ? "a line" : first;
        const size_t number = (size_t)atoi(here.c_str());
        if (number == 0 || number > lines_.size()) return "line " + here;
        std::string source = lines_[number - 1].substr(std::min(lines_[number - 1].find_first_not_of(' '), lines_[number - 1].size()));
        if (source.size() > 70) source = source.substr(0, 67) + "...";
        return format("line %zu, `%s`", number, source.c_str());
    }

    std::string name_, file_;
    std::vector<std::string> lines_;
    std::vector<Section> sections_;
    Result* result_;
};
}  // namespace learn
