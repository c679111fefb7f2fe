// peak.h: what this machine, or a GPU that is planned for, multiplies at best.
#pragma once
#include <type_traits>
#include "../backend.h"
#include "../model/gpus.h"
#include "options.h"

struct Peak { double flops; const char* source; };  // FLOP/s of all ranks together; where the figure is from, for the banner

// In the type F. Measured, which takes a twentieth of a second, where there is no data sheet.
template <class F> Peak find_peak(const Options& opt) {
    const Gpu* gpu = find_gpu(opt.plan);
    if (!gpu) gpu = find_gpu_of_device(device_name());
    const double flops = gpu ? 1e12 * (!std::is_same_v<F, float> ? gpu->bf16 : opt.tf32 ? gpu->tf32 : gpu->fp32) : measure_peak_flops<F>(0.05, opt.tf32 != 0);
    return {opt.nproc * flops, gpu ? "by its data sheet" : "measured"};
}
