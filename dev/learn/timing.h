// timing.h: runs the parts of an exercise on a GPU: whether what is right on the emulator is right there, too, and at a large size; how long it takes, over what a
// copy of as many bytes takes, or over the peak of the GPU's arithmetic, whichever takes longer.
//     build/learn/gelu-exercise-gpu 3 4 5      these parts; made by nvcc, started by learn.sh
#pragma once
#include "../../llmc/model/gpus.h"
#include "parts.h"

namespace learn {
constexpr int REPEATS = 21;
// A test has other numbers.
inline unsigned g_seconds = 10;   // of the GPU, for what takes milliseconds
inline size_t g_other_bytes = 0;  // that fill the cache before each run; 0: twice what it holds

// A test has a clock of its own.
inline float (*g_milliseconds)(cudaEvent_t, cudaEvent_t) = [](cudaEvent_t from, cudaEvent_t to) {
    float ms = 0;
    CUDA_CHECK(cudaEventElapsedTime(&ms, from, to));
    return ms;
};

// What runs on the GPU for longer ends this process by a signal: a loop that never ends, a barrier that one warp does not come to.
inline void run_to_the_end(const std::function<void()>& work) {
    alarm(g_seconds);
    work();
    CUDA_CHECK(cudaDeviceSynchronize());
    alarm(0);
}
// Microseconds, the median. Before each run the L2 cache is filled with something else; that takes longer than the host needs to launch what comes behind it.
inline double median_us(const std::function<void()>& work) {
    const size_t cache = g_other_bytes ? g_other_bytes : 2 * (size_t)std::max(device_properties().l2CacheSize, 32 << 20);
    char* others = (char*)device_alloc(cache);
    cudaEvent_t begin = nullptr, end = nullptr;
    CUDA_CHECK(cudaEventCreate(&begin));
    CUDA_CHECK(cudaEventCreate(&end));
    std::vector<double> us;
    for (int i = 0; i < REPEATS; i++) {
        run_to_the_end([&] {
            CUDA_CHECK(cudaMemsetAsync(others, i, cache, nullptr));
            CUDA_CHECK(cudaEventRecord(begin, nullptr));
            work();
            CUDA_CHECK(cudaEventRecord(end, nullptr));
        });
        us.push_back(1e3 * (double)g_milliseconds(begin, end));
    }
    CUDA_CHECK(cudaFree(others));
    std::nth_element(us.begin(), us.begin() + REPEATS / 2, us.end());
    return us[REPEATS / 2];
}

inline void Device::run(Result&, const std::function<void()>& call) { run_to_the_end(call); }
inline void Device::repeat(Result& result, const std::function<void()>& call) {
    result.us = median_us(call);
    const size_t half = (size_t)result.fewest / 2;  // is read, and as much is written
    char *from = (char*)device_alloc(half), *to = (char*)device_alloc(half);
    result.copy_us = median_us([&] { CUDA_CHECK(cudaMemcpyAsync(to, from, half, cudaMemcpyDeviceToDevice, nullptr)); });
}
inline void Device::poison(void* p, size_t bytes) { CUDA_CHECK(cudaMemset(p, 0xff, bytes)); }
inline void Device::read(void* to, const void* from, size_t bytes) { CUDA_CHECK(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost)); }
inline bool Device::set_order(uint64_t order) { return order == 1; }

class Timing {
public:
    explicit Timing(const char* file) : sections_(sections_of(lines_of(read_file(file)))), result_(shared_result()) {}

    // 0: all are right there. No numbers: all parts that run on a GPU.
    int time(const std::vector<Part>& parts, std::vector<int> numbers) {
        for (size_t i = 0, all = numbers.empty(); all && i < parts.size(); i++) if (parts[i].cuda) numbers.push_back((int)i + 1);
        const Ended asked = in_child([&] { use_device(0), printf("%s", device_name().c_str()), fflush(stdout); });  // not in this process: what has asked cannot fork
        if (asked.code) return printf("time on a GPU: not measured: %s\n", reason(asked).c_str()), 1;
        gpu_ = find_gpu_of_device(asked.said);
        printf("on %s, median of %d runs, each with an L2 cache that holds something else; a copy: cudaMemcpy of as many bytes in the same run; the peak: of the data sheet\n", asked.said.c_str(), REPEATS);
        wrong_ = 0;
        for (int n : numbers) {
            CHECK(n >= 1 && n <= (int)parts.size() && parts.size() == sections_.size(), "there is no part %d", n);
            const std::string said = on_gpu(parts[(size_t)n - 1]);
            printf("%-*s %s\n", width_of(sections_), sections_[(size_t)n - 1].title.c_str(), said.c_str());
        }
        return wrong_;
    }

private:
    std::string on_gpu(const Part& part) {
        *result_ = {};
        const Ended ended = in_child([&] {
            std::vector<Size> sizes = part.sizes;
            if (part.timed.size.N) sizes.push_back(part.timed.size);
            for (size_t i = 0; i < sizes.size() && !*result_->wrong; i++) {
                result_->size = sizes[i];
                std::vector<std::vector<uint32_t>> bits;
                Trial trial(*result_, bits, {.large = i == part.sizes.size()});
                part.grade(trial, sizes[i]);
            }
            result_->finished = true;
        });
        const std::string at = format("at N=%d, C=%d: ", result_->size.N, result_->size.C);
        wrong_ |= !result_->finished || *result_->wrong;
        if (!result_->finished) return "FAILED on the GPU: " + at + reason(ended);
        if (*result_->wrong) return "WRONG on the GPU, right on the emulator: " + at + result_->wrong;
        return part.timed.size.N ? costs(part.timed) : "right; not timed";
    }
    static std::string reason(const Ended& ended) {
        if (ended.code == 128 + SIGALRM) return format("not ended after %u second%s: does a loop's variable advance, do all threads come to each barrier?", g_seconds, g_seconds == 1 ? "" : "s");
        if (ended.code == 128 + SIGSEGV || ended.code == 128 + SIGBUS) return "the host read or wrote memory that is the GPU's alone";
        if (ended.code > 128) return strsignal(ended.code - 128);
        const size_t named = ended.said.find("cudaError"), error = ended.said.find("error: "), begin = named != std::string::npos ? named : error != std::string::npos ? error + strlen("error: ") : 0;
        return ended.said.substr(begin, ended.said.find('\n', begin) - begin);
    }
    // Which limit is the nearer one: of memory or of arithmetic.
    std::string costs(const Timed& timed) const {
        const Result& r = *result_;
        const std::string us = format("%9.1f us  ", r.us);
        const double peak = gpu_ ? 1e12 * (timed.rate == BF16 ? gpu_->bf16 : gpu_->fp32) : 0, best = peak > 0 ? 1e6 * timed.flops / peak : 0;
        if (best > r.copy_us) return us + format("%.3g TFLOP/s, %.0f %% of the peak of %.3g (%s)", timed.flops / r.us * 1e-6, 100 * best / r.us, peak * 1e-12, timed.rate == BF16 ? "bf16" : "fp32");
        std::string text = us + format("%.0f GB/s, %.0f %% of a copy's %.0f", r.fewest / r.us * 1e-3, 100 * r.copy_us / r.us, r.fewest / r.copy_us * 1e-3);
        if (timed.flops > 0 && !gpu_) text += format("; %.3g TFLOP/s, of a peak that is not known", timed.flops / r.us * 1e-6);
        return text;
    }

    std::vector<Section> sections_;
    Result* result_;
    const Gpu* gpu_ = nullptr;
    int wrong_ = 0;
};
inline std::vector<int> numbers_of(int argc, char** argv) {
    std::vector<int> numbers;
    for (int i = 1; i < argc; i++) numbers.push_back(atoi(argv[i]));
    return numbers;
}
}  // namespace learn
