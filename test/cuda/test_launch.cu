// How kernels are launched: early only where their code waits for its turn.
#include "device_test.h"

namespace launch_kernels {  // a name that the linker keeps: make test-ptx finds nvcc's code of a kernel by it
[[maybe_unused]] __global__ void careless_kernel(int* x) { *x = 1; }
[[maybe_unused]] __global__ void careful_kernel(int* x) {
    pdl_wait();
    *x = 2;
}
}  // namespace launch_kernels
using namespace launch_kernels;

// Code for sm_80 that the driver compiled for a newer GPU has no wait. Whoever launches its kernels early has a race.
TEST(kernels_without_a_wait_are_not_launched_early) {
    if (!ON_CPU || getenv("EMU_CODE")) SKIP("what a kernel was compiled for can be chosen in the emulator only, and not of nvcc's code");
#if __has_include(<cuda_on_cpu.h>)
    auto run = [](int version, bool careful, bool pdl) {
        return run_child([=] {
            emu::code_versions()[(const void*)(careful ? careful_kernel : careless_kernel)] = version;
            kernels_with_pdl_wait().clear();
            OnDevice<int> x(1);
            stream_t stream = open_stream({.kernels = {.pdl = pdl}});
            for (int i = 0; i < 2; i++) launch(careful ? careful_kernel : careless_kernel, Grid{1, 1}, stream, x.data());
            synchronize(stream);
            if (x.values()[0] != (careful ? 2 : 1)) exit(3);
        });
    };
    for (int version : {80, 89}) for (bool careful : both()) EXPECT_EQ(run(version, careful, true).code, 0);
    EXPECT_EQ(run(90, true, true).code, 0);
    EXPECT_EQ(run(90, false, false).code, 0);
    // it is launched early, and the emulator sees that it does not wait
    const Outcome o = run(90, false, true);
    if (o.code == 0 || o.output.find("launched early") == std::string::npos) FAIL("code %d: %s", o.code, o.output.c_str());
#endif
}
