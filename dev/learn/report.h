// report.h: runs the parts of an exercise, each in a child process, and says in a few lines what happened: which element, which lines, what the usual cause is.
#pragma once
#include <cuda_on_cpu.h>
#include <dlfcn.h>
#include <sys/resource.h>
#include <unistd.h>
#include "parts.h"
#include "threads.h"

namespace learn {
// What the part launches, which does not run: the process ends with it.
inline void launches_of(Result& result, const std::function<void()>& call) {
    emu::runs = [&](const emu::Asked& a) {
        if (result.n_launched == std::ssize(result.launched)) return false;
        Launch& l = result.launched[result.n_launched++];
        snprintf(l.kernel, sizeof l.kernel, "%s", a.name.substr(a.name.rfind(':') + 1).c_str());
        l.blocks = (double)a.blocks.x * a.blocks.y * a.blocks.z, l.threads = (double)a.threads.x * a.threads.y * a.threads.z, l.shared = (double)a.shared_bytes, l.bytes = 0;
        for (int i = 0; i < std::min(result.n_buffers, (int)std::size(result.buffers)); i++)
            for (const emu::Argument& x : a.arguments)
                if (const char* p = nullptr; x.bytes == sizeof p && (memcpy(&p, x.value, sizeof p), p == result.buffers[i].p)) { l.bytes += 4.0 * (double)result.buffers[i].n; break; }
        return false;
    };
    call();
    CUDA_CHECK(cudaDeviceSynchronize());
    result.finished = true;
    _exit(0);
}
// What the reader wrote runs on the emulator, which counts what it asks of memory.
inline void Device::run(Result& result, const std::function<void()>& call) {
    if (result.launches_alone) launches_of(result, call);
    result.record = {}, result.asked = result.touched = 0, result.launches = 0;
    accesses::begin(), accesses::record = &result.record;
    emu::listener() = [&](const emu::Event& e) {
        if (e.kind != emu::Event::WORK) return;
        result.asked += (double)(e.moved.read + e.moved.written), result.touched += (double)(e.moved.distinct_read + e.moved.distinct_written);
        result.launches++;
        accesses::kernel_ends();
    };
    call();
    CUDA_CHECK(cudaDeviceSynchronize());
    emu::listener() = nullptr, accesses::record = nullptr;
}
inline void Device::repeat(Result&, const std::function<void()>&) {}
inline void Device::poison(void*, size_t) {}  // all memory is
inline void Device::read(void* to, const void* from, size_t bytes) { memcpy(to, from, bytes); }  // a copy by CUDA would be told of what nobody has written
inline bool Device::set_order(uint64_t order) { return emu::set_seed(order), true; }

class Report {
public:
    Report(const char* name, const char* file) : name_(name), file_(file), lines_(lines_of(read_file(file))), sections_(sections_of(lines_)) {
        result_ = shared_result();
    }

    // `right`: a file for the numbers of the parts that are right and run on a GPU.
    int grade(const std::vector<Part>& parts, const char* right) {
        CHECK(sections_.size() == parts.size(), "%s: %zu parts begin with '// ---- N. title', must be %zu: is one of these lines missing? git checkout %s", file_.c_str(),
              sections_.size(), parts.size(), file_.c_str());
        printf("%s: %s\n", name_.c_str(), file_.c_str());
        size_t done = 0, next = parts.size();
        std::string on_gpu;
        for (size_t i = 0; i < parts.size(); i++) {
            const Verdict v = sections_[i].blanks.empty() ? grade_part(parts[i], i + 1) : blank(sections_[i]);
            right_.push_back(v.right());
            if (v.right() && parts[i].cuda) on_gpu += format("%zu ", i + 1);
            say(sections_[i].title, v.right() ? v : resting(i, v));
            done += v.ok();
            if (!v.ok() && next == parts.size()) next = i;
        }
        write_file_atomically(right, on_gpu);
        printf("%zu of %zu parts are done", done, parts.size());
        if (next < parts.size()) printf("; next: part %zu. A hint: make learn-%s HINT=%zu.1", next + 1, name_.c_str(), next + 1);
        printf("%s\n", brackets_ ? " (in brackets: what a part may cost at most; of bytes an access, at least)" : "");
        return done == parts.size() ? 0 : 1;
    }

private:
    static constexpr int ORDERS = 4;  // of threads
    static constexpr int CPU_SECONDS = 20;  // of a part at one size, which takes one or two

    struct Verdict {
        std::string word;
        std::vector<std::string> details;
        bool ok() const { return word == "ok"; }
        bool right() const { return ok() || word == "SLOW"; }
    };
    void say(const std::string& title, const Verdict& v) {
        printf("%-*s %s\n", width_of(sections_), title.c_str(), v.word.c_str());
        for (const std::string& d : v.details) if (!d.empty()) printf("    %s\n", d.c_str());
    }
    static Verdict blank(const Section& s) {
        std::string where;
        for (int line : s.blanks) where += format("%s%d", where.empty() ? "" : ", ", line);
        return {"blank", {format("to fill: line%s %s", s.blanks.size() > 1 ? "s" : "", where.c_str())}};
    }
    // Where a part calls a function of an earlier one, and neither is right, the earlier one is to be mended first: what is said of the other may be its mistake.
    Verdict resting(size_t part, const Verdict& v) const {
        for (size_t i = 0; i < part && v.word != "blank"; i++)
            if (const std::string called = right_[i] ? "" : function_of(sections_[i], sections_[part]); !called.empty())
                return {"WAITS", {format("it is not right, but it calls %s() of part %zu, which is not done: that one first", called.c_str(), i + 1)}};
        return v;
    }
    // A function that one part defines and another one calls. Definitions begin in the first column and end with {.
    std::string function_of(const Section& defines, const Section& calls) const {
        for (int d = defines.first; d < defines.last; d++) {
            const std::string& line = lines_[(size_t)d];
            const size_t open = line.find('(');
            if (open == std::string::npos || !line.ends_with("{") || line[0] == ' ' || line[0] == '/') continue;
            size_t begin = open;
            while (begin > 0 && (isalnum((unsigned char)line[begin - 1]) || line[begin - 1] == '_')) begin--;
            const std::string name = line.substr(begin, open - begin);
            for (int c = calls.first; c < calls.last; c++) {
                const std::string code = lines_[(size_t)c].substr(0, lines_[(size_t)c].find("//"));
                for (size_t at = code.find(name); !name.empty() && at != std::string::npos; at = code.find(name, at + 1)) {
                    const char before = at > 0 ? code[at - 1] : ' ', after = code[std::min(at + name.size(), code.size() - 1)];
                    const bool word = !isalnum((unsigned char)before) && before != '_' && before != '.' && (after == '(' || after == '<' || (at >= 7 && code.substr(at - 7, 7) == "launch("));
                    if (word && !code.starts_with("void ") && !code.starts_with("__")) return name;
                }
            }
        }
        return "";
    }

    // What it launches at the size that is timed on a GPU, with the buffers that it is given there.
    bool find_launches(const Part& part) {
        *result_ = {};
        result_->launches_alone = true;
        in_child([&] {
            std::vector<std::vector<uint32_t>> bits;
            Trial trial(*result_, bits, {.large = true});
            part.grade(trial, part.timed.size);
        });
        return result_->finished;
    }
    Ended run_in_child(const Part& part, Size size, int orders) {
        *result_ = {};
        return in_child([&] {
            const rlimit seconds = {CPU_SECONDS, CPU_SECONDS};
            setrlimit(RLIMIT_CPU, &seconds);  // a loop that never ends
            std::vector<std::vector<uint32_t>> bits;
            for (int order = 1; order <= orders; order++) {
                emu::set_seed((uint64_t)order);
                Trial trial(*result_, bits, {.order = order});
                part.grade(trial, size);
            }
            result_->finished = true;
        });
    }

    Verdict grade_part(const Part& part, size_t number) {
        double worst = 0;
        std::string sizes;
        for (size_t i = 0; i < part.sizes.size(); i++) {
            const Size size = part.sizes[i];
            const bool large = i > 0 && i + 1 == part.sizes.size();  // takes longest
            const Ended ended = run_in_child(part, size, part.cuda && !large ? ORDERS : 2);
            const std::string at = format("at N=%d, C=%d: ", size.N, size.C);
            const Result& r = *result_;
            if (!r.finished) return of_ended(at, ended, part.advice);
            if (*r.wrong) return {"WRONG", {at + r.wrong, *r.cause ? format("that is what comes out if %s", r.cause) : part.cuda && !r.launches ? "no kernel ran: is the number of blocks 0?" : ""}};
            if (*r.unrepeatable) return {"NOT REPEATABLE", {at + r.unrepeatable, "sums of floats depend on their order, and atomicAdd adds in the order in which threads arrive: let one thread add, in a fixed order"}};
            worst = std::fmax(worst, r.worst);
            sizes += format(" (%d, %d)", size.N, size.C);
        }
        if (sizes != " (1, 1)") sizes = " at (N, C) =" + sizes;
        else sizes = "";
        const std::string right = format("right%s; largest error %.2g of what rounding may do; same bits in %s", sizes.c_str(), worst, !part.cuda ? "2 runs" : format(part.sizes.size() > 1 ? "%d orders of threads, 2 at the last size" : "%d orders of threads", ORDERS).c_str());
        if (!part.cuda) return {"ok", {right}};
        std::string slow = what_is_missed(part.limits);
        const std::string cost = costs(part.limits), less = dearer(number);
        std::string few = part.timed.size.N && result_->record.accesses ? too_few_threads(part, per_access()) : "";
        if (part.limits.threads && slow.empty()) slow.swap(few);
        return {slow.empty() ? "ok" : "SLOW", {right, cost, slow, few, less}};
    }
    // Of the launches the one that takes longest by its threads, if memory waits for them.
    std::string too_few_threads(const Part& part, double bytes_of_load) {
        if (!find_launches(part)) return "";
        const Launch* worst = nullptr;
        double most = LAUNCH;  // that is lost
        for (int i = 0; i < result_->n_launched; i++) {
            const Launch& l = result_->launched[i];
            const double threads = threads_at_once(l.blocks, l.threads, l.shared), lost = seconds_of(threads, bytes_of_load, l.bytes) - l.bytes / MEMORY_RATE;
            if (threads < threads_needed(bytes_of_load) && lost > most) worst = &l, most = lost;
        }
        if (!worst) return "";
        const double threads = threads_at_once(worst->blocks, worst->threads, worst->shared);
        return format("too few threads on a GPU: at N=%d, C=%d %s has %.0f at once (%.0f block%s of %.0f), and an H100's memory is busy from %.0f on: %.2f TB/s x %.0f ns until a load is back are %.1f MB under way, at %.0f loads of %.1f bytes a thread. So its %.1f MB take about %.0f us, not %.0f",
                      part.timed.size.N, part.timed.size.C, worst->kernel, threads, worst->blocks, worst->blocks > 1 ? "s" : "", worst->threads, threads_needed(bytes_of_load), MEMORY_RATE * 1e-12, LATENCY * 1e9, MEMORY_RATE * LATENCY * 1e-6, LOADS, bytes_of_load,
                      worst->bytes * 1e-6, seconds_of(threads, bytes_of_load, worst->bytes) * 1e6, worst->bytes / MEMORY_RATE * 1e6);
    }

    // ---- what went wrong in a child that did not finish -------------------------------------------------------------------
    Verdict of_ended(const std::string& at, const Ended& ended, const Advice& advice) {
        const std::string tag = "emulator: ";
        const size_t begin = ended.said.find(tag);
        if (begin == std::string::npos) {
            if (ended.code == 128 + SIGXCPU || ended.code == 128 + SIGKILL) return Verdict{"HANGS", {at + format("not ended after %d seconds: does a loop's variable advance?", CPU_SECONDS)}};
            return Verdict{"CRASH", {at + (ended.code > 128 ? strsignal(ended.code - 128) : ended.said.substr(0, ended.said.find('\n')))}};
        }
        std::string said = ended.said.substr(begin + tag.size());
        said = said.substr(0, said.find('\n'));
        const accesses::Record& r = result_->record;
        if (said.find("race in") != std::string::npos) {
            const bool reads_now = said.find("this one reads") != std::string::npos;
            const bool read_before = said.find("reads there") != std::string::npos;
            const accesses::Access& before = read_before ? r.read : r.wrote;
            return Verdict{"RACE", {at + doing(before), "    and " + doing(r.now) + ", and nothing says which comes first", race_cause(before, r.now, reads_now, read_before)}};
        }
        if (const size_t atomic = said.find("an atomic"); atomic != std::string::npos)  // which no call of the compiler announces
            return Verdict{said.find("nobody") != std::string::npos ? "UNWRITTEN" : "OUTSIDE", {at + said.substr(atomic, said.find(" (", atomic) - atomic) + ", behind " + line(r.now.code), said.find("nobody") != std::string::npos ? "memory that is added to must be set first, to 0" : "is its index too large?"}};
        if (said.find("nobody has written") != std::string::npos)
            return Verdict{"UNWRITTEN", {at + doing(r.now, r.stack) + ", which nobody has written", buffer_of(r.now.p) ? "is it an output that is added to, or does a loop leave elements out, or go too far?"
                                            : r.copies ? "a copy must be started, of all the tile's bytes and to this buffer, committed as a group and waited for by its own thread; then comes a barrier: which is missing?"
                                            : "is a barrier missing between the write and the read, or does a loop leave elements out, or go too far?"}};
        if (said.find("dynamic shared") != std::string::npos)
            return Verdict{"OUTSIDE", {at + doing(r.now, r.stack) + ", outside of what the launch gives the block", advice.outside_shared ? advice.outside_shared : "how many bytes does a block need: the elements of each array that lies there, times sizeof(float)?"}};
        if (said.find("outside of") != std::string::npos) return Verdict{"OUTSIDE", {at + doing(r.now, r.stack), advice.outside ? advice.outside
                                                                         : across_the_end(r.now) ? "the last elements are fewer than a whole access: take those one by one"
                                                                         : "is there a thread behind the last row or column that has nothing to do (it returns, if no barrier follows), a stride that is too long, or a row's length that is another array's?"}};
        if (said.find("not aligned") != std::string::npos) return Verdict{"NOT ALIGNED", {at + doing(r.now), format("%u bytes at once must begin at a multiple of %u bytes: at an index that is a multiple of %u", r.now.bytes, r.now.bytes, r.now.bytes / 4)}};
        if (const size_t colon = said.find(": block ("); colon != std::string::npos) said = said.substr(colon + 2);  // without the kernel's name
        if (said.find("divergent") != std::string::npos || said.find("waits for ever") != std::string::npos || said.find("lanes of a warp") != std::string::npos || said.find("mask") != std::string::npos) {
            const std::string here = called(r.stack, 0, "in "), others = called(r.waiting, 0, "in ");
            if (said.find("in line") == std::string::npos) said += " " + here + (others.empty() || others == here ? "" : "; others wait " + others);
            return Verdict{"DIVERGENT", {at + said, advice.divergent ? advice.divergent : "barriers and warp operations are for all threads: at that line or before it, does one of them return, leave a loop or pass by an `if` that others do not?"}};
        }
        return Verdict{"FAILED", {at + said}};
    }
    // The last write and read are told from where the accesses lie: shared memory of a block, or device memory.
    std::string race_cause(const accesses::Access& before, const accesses::Access& now, bool reads_now, bool read_before) const {
        if (buffer_of(now.p)) {
            if (before.block != now.block) return "do two blocks compute the same element, by an index that is not blockIdx.x * blockDim.x + threadIdx.x, or a loop whose step is less than all threads of the grid? If both must add to it: blocks cannot wait for each other, so give each its own, and let a second kernel add them";
            if (before.write && now.write) return "two threads write the same element: let one of them do it, or give each its own";
            const bool same_warp = before.thread / WARP == now.thread / WARP;
            return format("one thread reads what another writes: does each own its elements, or must %s stand between?", same_warp ? "__syncwarp(), as these two are lanes of one warp, or __syncthreads(), if other warps of the block may meet there," : "__syncthreads()");
        }
        if (read_before) return "a barrier is missing before shared memory is used again: others may still read it";
        if (reads_now) return "a barrier is missing between the write and the read, or, in a loop, between the read and the next round's write: __syncthreads() for a block, __syncwarp() for a warp";
        return "two threads write the same place of shared memory: does the index depend on the thread?";
    }

    // ---- costs --------------------------------------------------------------------------------------------------------------
    static double ratio(double a, double b) { return b > 0 ? a / b : 0; }
    double per_access() const { return ratio((double)result_->record.bytes, (double)result_->record.accesses); }
    double sectors() const { return ratio((double)result_->record.sectors, (double)result_->record.fewest_sectors); }
    // Behind each, in brackets, what the part may cost.
    std::string costs(const Limits& l) {
        const Result& r = *result_;
        auto allowed = [&](double limit, const char* pattern) { return brackets_ |= limit > 0, limit > 0 ? format(pattern, limit) : std::string(); };
        return format("bytes over the fewest: asked %.2f%s, touched %.2f%s; sectors %.2f%s; %.1f bytes an access%s; %llu bank conflicts%s; %d launch%s%s", ratio(r.asked, r.fewest), allowed(l.asked, " (%.2f)").c_str(), ratio(r.touched, r.fewest),
                      allowed(l.touched, " (%.2f)").c_str(), sectors(), allowed(l.sectors, " (%.2f)").c_str(), per_access(), allowed(l.access, " (%.0f)").c_str(), (unsigned long long)r.record.conflicts, l.no_conflicts ? " (0)" : "",
                      r.launches, r.launches == 1 ? "" : "es", allowed(l.launches, " (%.0f)").c_str());
    }
    // What the page's table says of the solution, where that costs less: | part | rung | asked | touched | sectors | bytes an access |
    std::string dearer(size_t part) const {
        const std::string page = "doc/learn/" + name_ + ".md", row = format("| %zu |", part);
        bool table = false;
        for (const std::string& l : access(page.c_str(), R_OK) ? std::vector<std::string>() : lines_of(read_file(page))) {
            double asked = 0, touched = 0, fewest = 0;
            table = (table && !l.empty()) || l.starts_with("<!-- graded ");
            if (!table || !l.starts_with(row) || sscanf(l.c_str() + l.find('|', row.size()), "| %lf | %lf | %lf", &asked, &touched, &fewest) != 3) continue;
            auto more = [](double mine, double least) { return mine > 1.02 * least; };
            if (more(ratio(result_->asked, result_->fewest), asked) || more(ratio(result_->touched, result_->fewest), touched) || more(sectors(), fewest))
                return format("the solution: asked %.2f, touched %.2f; sectors %.2f%s", asked, touched, fewest, more(sectors(), fewest) ? "" : ". What is read again and could be kept, or need not be read or written?");
        }
        return "";
    }
    std::string what_is_missed(const Limits& l) const {
        const Result& r = *result_;
        const accesses::Place& s = r.record.worst_sectors;
        if (l.launches && r.launches > l.launches) return format("%d launches, must be %d%s", r.launches, l.launches, l.launches == 1 ? ": do it in one kernel" : "");
        if (l.sectors > 0 && sectors() > l.sectors)
            return format("sectors: must be at most %.2f of the fewest. A warp in %s asks for %.1f where %.1f would do: neighbouring lanes should read and write neighbouring elements", l.sectors,
                          line(s.code).c_str(), ratio((double)s.asked, (double)s.requests), ratio((double)s.fewest, (double)s.requests));
        if (l.access > 0 && per_access() < l.access) return format("an access has %.1f bytes, must be %.0f: load_floats() and store_floats() take 16 at a time", per_access(), l.access);
        if (l.asked > 0 && ratio(r.asked, r.fewest) > l.asked) return format("bytes asked for: must be at most %.2f of the fewest: what is read twice can be kept", l.asked);
        if (l.touched > 0 && ratio(r.touched, r.fewest) > l.touched) return format("bytes touched: must be at most %.2f of the fewest: what one kernel writes for the next goes through memory", l.touched);
        if (l.turns && r.record.longest.asked > (uint64_t)l.turns)
            return format("one thread comes to %s %llu times: too few threads share what is added up, or one adds alone. Let each thread have its share, then add over the block", line(r.record.longest.code).c_str(), (unsigned long long)r.record.longest.asked);
        if (l.overlap && !r.record.overlapped) return "no overlap: shared memory is never read while a copy is in flight. Start the next tile's copy before you wait for this one's, and leave one group in flight";
        if (l.no_conflicts && r.record.conflicts)
            return format("bank conflicts: %s wants %llu words of one bank at once: neighbouring lanes should use words of different banks", line(r.record.worst_banks.code).c_str(), (unsigned long long)r.record.worst_banks.asked);
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
    bool across_the_end(const accesses::Access& a) const {
        const Buffer* b = buffer_of(a.p);
        return b && a.p >= b->p && a.p < b->p + b->n * 4;
    }
    std::string doing(const accesses::Access& a, const void* const* stack = nullptr) const {
        std::string what = "shared memory";
        if (const Buffer* b = buffer_of(a.p)) {
            const long i = (a.p - b->p) / 4, C = b->columns, last = i + (long)std::max(a.bytes / 4, 1u) - 1;
            const bool inside = a.p >= b->p && a.p + a.bytes <= b->p + b->n * 4;
            what = C && inside ? format("%s[%ld][%ld]", b->name, i / C, i % C) : format("%s[%ld]", b->name, i);
            if (!inside) what += (last > i ? format(" to %s[%ld]", b->name, last) : "") + format(", but it has %zu elements", b->n);
        }
        return format("%s%s: block %u, thread %d (lane %d of warp %d) %s %s", a.code == &accesses::ASYNC_COPY ? "an asynchronous copy" : line(a.code).c_str(), stack ? called(stack, 1, ", called in ").c_str() : "", a.block, a.thread, a.thread % WARP, a.thread / WARP, a.write ? "writes" : "reads", what.c_str());
    }
    // FILE:LINE that code was made from, the innermost first; what is inlined there has frames of its own.
    static std::vector<std::string> places_of(const void* const* codes, size_t n) {
        std::string command = format("addr2line -i -e /proc/%d/exe", getpid());
        Dl_info info;
        for (size_t i = 0; i < n && codes[i] && dladdr(codes[i], &info); i++) command += format(" 0x%zx", (size_t)((const char*)codes[i] - (const char*)info.dli_fbase) - 1);
        std::vector<std::string> places;
        FILE* pipe = popen((command + " 2>/dev/null < /dev/null").c_str(), "r");
        for (char text[1024]; pipe && fgets(text, sizeof text, pipe);) {
            text[strcspn(text, " (\n")] = 0;
            places.push_back(strrchr(text, '/') ? strrchr(text, '/') + 1 : text);
        }
        if (pipe) pclose(pipe);
        return places;
    }
    // Those of the exercise, as they stand there.
    std::vector<std::string> own_lines(const std::vector<std::string>& places) const {
        std::vector<std::string> own;
        const std::string file = file_.substr(file_.rfind('/') + 1) + ":";
        for (const std::string& place : places) {
            if (!place.starts_with(file)) continue;
            const size_t number = (size_t)atoi(place.c_str() + file.size());
            std::string source = number == 0 || number > lines_.size() ? "" : lines_[number - 1].substr(std::min(lines_[number - 1].find_first_not_of(' '), lines_[number - 1].size()));
            if (source.size() > 70) source = source.substr(0, 67) + "...";
            own.push_back(source.empty() ? "line " + place.substr(file.size()) : format("line %zu, `%s`", number, source.c_str()));
        }
        return own;
    }
    std::string line(const void* code) const {
        if (!code) return "a line";
        const std::vector<std::string> places = places_of(&code, 1), own = own_lines(places);
        return !own.empty() ? own[0] : places.empty() || places[0][0] == '?' ? "a line" : places[0];
    }
    // The exercise's line that is `depth` calls above the innermost one, if there is one.
    std::string called(const void* const* stack, size_t depth, const char* before) const {
        const std::vector<std::string> own = own_lines(places_of(stack, std::size(result_->record.stack)));
        return depth < own.size() ? before + own[depth] : "";
    }

    std::string name_, file_;
    std::vector<std::string> lines_;
    std::vector<Section> sections_;
    std::vector<bool> right_;  // of the parts so far
    bool brackets_ = false;    // something that is allowed was printed
    Result* result_;
};
}  // namespace learn
