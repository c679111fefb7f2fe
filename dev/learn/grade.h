// grade.h: what every exercise is graded with. An exercise is one file with blanks, `exercise.cu`, and a table `table.h`: for each part a function that makes the
// inputs, calls what the reader wrote and says what must come out, and what typical mistakes make come out instead.
//     make learn-NAME            dev/learn/learn.sh compiles and runs it
// A part runs in a child process, at each size and, if it is CUDA, in several orders of threads; report.h says in a few lines what happened. Where a GPU is, parts
// that are right run on it, too, and timing.h says how long they take.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>
#include "../../llmc/base/rng.h"
#include "../../llmc/cuda/device.cuh"
#include "accesses.h"

// A blank: it compiles wherever one value is wanted, and a part that has one does not run. A number is 1: as an array's size nvcc takes no 0.
struct Blank {
    template <class T> __host__ __device__ constexpr operator T() const {
        if constexpr (std::is_arithmetic_v<T>) return T(1);
        else return T();
    }
};
#define BLANK Blank()

namespace learn {
using Doubles = std::vector<double>;

struct Size { int N, C; };  // rows and columns of the layer's input
// A mistake that others have made: with it these values would have come out.
struct Cause { const char* what; Doubles values; };
// What a part must keep to, where it is more than the right numbers; 0: shown, not asked.
struct Limits {
    double asked = 0;       // bytes that lanes ask for, over the fewest: each input read once, each output written once
    double touched = 0;     // each byte once a kernel, over the fewest
    double sectors = 0;     // over the fewest that hold the bytes
    double access = 0;      // bytes of an average access
    int launches = 0;
    bool no_conflicts = false;
    bool overlap = false;   // shared memory is read while asynchronous copies of the same thread are in flight
    bool threads = false;   // at the size that is timed each launch has as many threads as a GPU's memory needs (threads.h)
    int turns = 0;          // that one thread takes at the same load or store between two barriers
};

// What is to be said of a part's mistakes where more is known than of any kernel's; null: that.
struct Advice { const char *outside = nullptr, *outside_shared = nullptr, *divergent = nullptr; };

// In memory shared with the child that runs a part; texts are what the child has found.
struct Buffer { char name[24]; const char* p; size_t n; int columns; };
struct Launch { char kernel[64]; double blocks, threads, shared, bytes; };  // threads: of a block; bytes: of the buffers that it is given
struct Result {
    accesses::Record record;
    Buffer buffers[24];
    int n_buffers;
    char wrong[400], cause[300], unrepeatable[300];
    double asked, touched, fewest, worst;  // worst: largest error in units of its bound
    int launches;
    bool launches_alone;    // of this run: kernels do not run, and inputs have no values
    Launch launched[8];     // then
    int n_launched;
    Size size;              // that runs now, on a GPU
    double us, copy_us;     // there, of the large size: the median, and that of a copy of `fewest` bytes
    bool finished;
};

// What the emulator (report.h) and a GPU (timing.h) do each in its own way.
struct Device {
    static void run(Result& result, const std::function<void()>& call);     // once, to its end
    static void repeat(Result& result, const std::function<void()>& call);  // again and again, by a clock
    static void poison(void* p, size_t bytes);  // which nobody has written yet: bits 1
    static void read(void* to, const void* from, size_t bytes);
    static bool set_order(uint64_t order);  // of threads and streams; whether there is another one
};
struct Turn { int order = 1; bool large = false; };  // large: beyond a cache, where mistakes have no name

// One run of a part: its buffers, the call, what must come out.
class Trial {
public:
    static constexpr size_t NAMED = 24, PERIOD = 65537;
    stream_t stream;

    Trial(Result& result, std::vector<std::vector<uint32_t>>& bits, Turn turn) : result_(result), bits_(bits), turn_(turn), random_(0) {
        stream.kernels.pdl = false;  // an exercise's kernels need no pdl_wait()
        result_.n_buffers = 0, result_.fewest = 0;
    }

    // Values as of a normal distribution, the same in every run; of many the first 65537 again and again, a prime number, so that no two rows are alike.
    Doubles normal(size_t n, double mean = 0, double deviation = 1) {
        Doubles v(n);
        for (size_t i = 0; i < std::min(filled(n), PERIOD); i++) {
            const Random4 r = philox(1, RNG_TEST, 0, random_++);
            const double u = (r.x[0] + 1.0) / 4294967297.0, w = r.x[1] / 4294967296.0;
            v[i] = (float)(mean + deviation * std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * w));
        }
        for (size_t i = PERIOD; i < filled(n); i += PERIOD) std::copy_n(v.begin(), std::min(PERIOD, n - i), v.begin() + (long)i);
        return v;
    }
    size_t filled(size_t n) const { return result_.launches_alone ? 0 : n; }  // so many of n elements need values
    const float* given(const char* name, const Doubles& values, int columns = 0) { return (float*)make(name, values, columns, 1); }  // must stay as it is
    const int* given(const char* name, const std::vector<int>& values) {
        Doubles as_bits;
        for (int x : values) as_bits.push_back(std::bit_cast<float>(x));
        return (int*)make(name, as_bits, 0, 1);
    }
    float* result(const char* name, size_t n, int columns = 0) { return (float*)make(name, Doubles(n), columns, 1, true); }  // nobody has written it
    float* changed(const char* name, const Doubles& values, int columns = 0) {  // += or in place: read and written
        float* p = (float*)make(name, values, columns, 2);
        buffers_.back().before.clear();
        return p;
    }
    float* scratch(const char* name, size_t n) { return (float*)make(name, Doubles(n), 0, 0, true); }  // counts when it is used

    // What the reader wrote.
    void run(const std::function<void()>& call) {
        Device::run(result_, call);
        for (Made& b : buffers_) {
            Device::read(b.after.data(), b.p, b.after.size() * 4);
            if (!b.before.empty() && memcmp(b.after.data(), b.before.data(), b.before.size() * 4)) say_wrong("%s has changed: it is an input", b.name.c_str());
        }
        if (turn_.large && !*result_.wrong) Device::repeat(result_, call);
    }
    const float* values(const char* name) const { return find(name)->after.data(); }  // that it left

    // Whether the values that a mistake gives are of use: they take as long as the right ones, of which large sizes have many.
    template <class Mistake> bool wants(Mistake m) const { return !turn_.large || m == Mistake{}; }
    bool is_large() const { return turn_.large; }

    // `name` must be `right` within `bound`, an absolute error or one for each element.
    void expect(const char* name, const Doubles& right, double bound, const std::vector<Cause>& causes = {}) { expect(name, right, Doubles(right.size(), bound), causes); }
    void expect(const char* name, const Doubles& right, const Doubles& bound, const std::vector<Cause>& causes = {}) {
        const Made* b = find(name);
        std::vector<uint32_t> got(right.size());
        memcpy(got.data(), b->after.data(), got.size() * 4);
        if (turn_.order > 1) return same_bits(*b, got);
        bits_.push_back(got);
        std::vector<size_t> wrong;
        size_t unwritten = 0;
        for (size_t i = 0; i < right.size(); i++) {
            const double error = std::fabs((double)b->after[i] - right[i]);
            if (!(error <= bound[i])) wrong.push_back(i), unwritten += got[i] == 0xffffffff;
            else result_.worst = std::fmax(result_.worst, error / bound[i]);
        }
        if (wrong.empty() || *result_.wrong) return;
        const size_t i = wrong[0];
        if (unwritten) say_wrong("%s was never written, or comes of what was not%s", element(*b, *std::find_if(wrong.begin(), wrong.end(), [&](size_t k) { return got[k] == 0xffffffff; })).c_str(), pattern(*b, wrong, right.size()).c_str());
        else {
            const bool alike = format("%.6g", (double)b->after[i]) == format("%.6g", right[i]);
            say_wrong(alike ? "%s is %.9g, must be %.9g%s" : "%s is %.6g, must be %.6g%s", element(*b, i).c_str(), (double)b->after[i], right[i], pattern(*b, wrong, right.size()).c_str());
        }
        if (!unwritten && std::isnan(b->after[i])) snprintf(result_.cause, sizeof result_.cause, "an infinity is subtracted from itself, multiplied by 0 or divided by another, 0 is divided by 0, or a root or logarithm is taken of a negative number");
        for (const Cause& c : causes) {
            if (c.values.size() != right.size()) continue;
            bool same = true;
            for (size_t k = 0; k < right.size() && same; k++) same = (double)b->after[k] == c.values[k] || std::fabs((double)b->after[k] - c.values[k]) <= 4 * bound[k] + 1e-3 * std::fabs(c.values[k] - right[k]) || (std::isnan(b->after[k]) && std::isnan(c.values[k]));
            if (same) return (void)snprintf(result_.cause, sizeof result_.cause, "%s", c.what);
        }
    }

private:
    struct Made { std::string name; float* p; int columns; std::vector<uint32_t> before; std::vector<float> after; };

    void* make(const char* name, const Doubles& values, int columns, int times, bool unwritten = false) {
        std::vector<float> floats(filled(values.size()));
        std::copy_n(values.begin(), floats.size(), floats.begin());
        float* p = nullptr;
        CUDA_CHECK(cudaMalloc(&p, values.size() * 4));
        Made b{name, p, columns, {}, std::vector<float>(floats.size())};
        if (unwritten) Device::poison(p, floats.size() * 4);
        else {
            if (!floats.empty()) CUDA_CHECK(cudaMemcpy(p, floats.data(), floats.size() * 4, cudaMemcpyHostToDevice));
            b.before.resize(floats.size());
            memcpy(b.before.data(), floats.data(), floats.size() * 4);
        }
        CUDA_CHECK(cudaDeviceSynchronize());
        buffers_.push_back(b);
        Buffer& named = result_.buffers[result_.n_buffers++ % NAMED];
        snprintf(named.name, sizeof named.name, "%s", name);
        named.p = (char*)p, named.n = values.size(), named.columns = columns;
        result_.fewest += 4.0 * (double)values.size() * times;
        return p;
    }
    const Made* find(const char* name) const {
        for (const Made& b : buffers_) if (b.name == name) return &b;
        die("table.h: no buffer is named %s", name);
    }
    static std::string element(const Made& b, size_t i) {
        return b.columns ? format("%s[%zu][%zu]", b.name.c_str(), i / (size_t)b.columns, i % (size_t)b.columns) : format("%s[%zu]", b.name.c_str(), i);
    }
    // Which elements are wrong, when they have something in common.
    static std::string pattern(const Made& b, const std::vector<size_t>& wrong, size_t n) {
        if (wrong.size() == n) return n > 1 ? format("; all %zu are wrong", n) : "";
        if (wrong.size() == 1) return format("; the others of %zu are right", n);
        std::string text = format("; %zu of %zu are wrong", wrong.size(), n);
        const size_t C = b.columns ? (size_t)b.columns : n;
        size_t first_row = n, first_column = C, expected = 0;
        for (size_t i : wrong) first_row = std::min(first_row, i / C), first_column = std::min(first_column, i % C);
        const size_t rows = n / C;
        for (size_t r = 0; r < rows; r++) for (size_t c = first_column; c < C; c++) expected += 1;
        if (first_column > 0 && expected == wrong.size()) return text + format(": %s %zu and up, of %zu", b.columns ? "columns" : "elements", first_column, C);
        if (first_row > 0 && wrong.size() == (rows - first_row) * C) return text + format(": rows %zu and up, of %zu", first_row, rows);
        return text;
    }
    template <class... A> void say_wrong(const char* text, A... a) { if (!*result_.wrong) snprintf(result_.wrong, sizeof result_.wrong, text, a...); }

    // The order of threads must not show in any bit.
    void same_bits(const Made& b, const std::vector<uint32_t>& got) {
        if (next_ >= bits_.size()) return;
        const std::vector<uint32_t>& first = bits_[next_++];
        for (size_t i = 0; i < got.size(); i++)
            if (got[i] != first[i] && !*result_.unrepeatable)
                snprintf(result_.unrepeatable, sizeof result_.unrepeatable, "%s is %.9g in one order of the threads and %.9g in another", element(b, i).c_str(),
                         (double)std::bit_cast<float>(first[i]), (double)std::bit_cast<float>(got[i]));
    }

    Result& result_;
    std::vector<std::vector<uint32_t>>& bits_;
    Turn turn_;
    uint64_t random_;
    size_t next_ = 0;
    std::vector<Made> buffers_;
};

// What is timed on a GPU: a size whose arrays are beyond its cache, or whose arithmetic takes longer than they do.
enum Rate { FP32, BF16 };  // by tensor cores, with sums in fp32
struct Timed { Size size{}; double flops = 0; Rate rate = FP32; };

struct Part {
    void (*grade)(Trial&, Size);
    std::vector<Size> sizes;  // the last one is large and even: bytes and sectors are counted there
    bool cuda = false;
    Limits limits{};
    Timed timed{};
    Advice advice{};
};
}  // namespace learn
