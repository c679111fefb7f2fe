// test_flops.cpp: which data sheet a driver's name for a device leads to.
#include "../../llmc/base/text_format.h"
#include "../../llmc/model/config_names.h"
#include "../../llmc/model/flops.h"
#include "../../llmc/model/gpus.h"
#include "../test.h"

TEST(flops_of_devices) {
    // as drivers write them
    for (auto [device, name] : {std::pair{"NVIDIA A100-SXM4-40GB", "A100"}, {"NVIDIA A100-SXM4-80GB", "A100"}, {"NVIDIA A100-PCIE-40GB", "A100PCIe"},
             {"NVIDIA A100 80GB PCIe", "A100PCIe"}, {"A100-SXM4-40GB", "A100"}, {"NVIDIA A10", "A10"}, {"NVIDIA A10G", "A10G"}, {"NVIDIA A30", "A30"},
             {"NVIDIA A40", "A40"}, {"NVIDIA RTX A6000", "RTXA6000"}, {"NVIDIA GeForce RTX 3080", "RTX3080"}, {"NVIDIA GeForce RTX 3090", "RTX3090"},
             {"NVIDIA GeForce RTX 3090 Ti", "RTX3090Ti"}, {"NVIDIA L4", "L4"}, {"NVIDIA L40", "L40"}, {"NVIDIA L40S", "L40S"},
             {"NVIDIA RTX 6000 Ada Generation", "RTX6000Ada"}, {"NVIDIA GeForce RTX 4070", "RTX4070"}, {"NVIDIA GeForce RTX 4070 Ti", "RTX4070Ti"},
             {"NVIDIA GeForce RTX 4070 Ti SUPER", "RTX4070TiSUPER"}, {"NVIDIA GeForce RTX 4080", "RTX4080"}, {"NVIDIA GeForce RTX 4090", "RTX4090"},
             {"NVIDIA H100 80GB HBM3", "H100"}, {"NVIDIA H100 PCIe", "H100PCIe"}, {"NVIDIA H100 NVL", "H100NVL"}, {"NVIDIA H200", "H200"},
             {"NVIDIA H200 NVL", "H200NVL"}, {"NVIDIA GH200 480GB", "GH200"}, {"NVIDIA GH200 144G HBM3e", "GH200"}, {"NVIDIA B200", "B200"},
             {"NVIDIA GB200", "GB200"}, {"NVIDIA B300 SXM6 AC", "B300"}, {"NVIDIA GB300", "GB300"}, {"NVIDIA GeForce RTX 5070 Ti", "RTX5070Ti"},
             {"NVIDIA GeForce RTX 5080", "RTX5080"}, {"NVIDIA GeForce RTX 5090", "RTX5090"},
             {"NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "RTXPRO6000Workstation"},
             {"NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "RTXPRO6000MaxQWorkstation"}}) {
        const Gpu* gpu = find_gpu_of_device(device);
        EXPECT_STR(gpu ? gpu->name : "none", name);
    }
    // what is called after one of them and is slower, or faster
    for (const char* device : {"NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 5090 Laptop GPU", "NVIDIA GeForce RTX 4090 D",
             "NVIDIA GeForce RTX 5090 D", "NVIDIA GeForce RTX 3080 Ti", "NVIDIA GeForce RTX 3080 Laptop GPU", "NVIDIA H100 80GB HBM3 MIG 3g.40gb",
             "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "NVIDIA A800-SXM4-80GB", "NVIDIA H20", "NVIDIA H100 64GB HBM2e", "GRID A100-40C", "NVIDIA A10-24Q",
             "NVIDIA A100X", "NVIDIA RTX PRO 6000 Blackwell Server Edition", "Quadro RTX 6000", "Tesla T4", "Tesla V100-SXM2-16GB", "cpu, 2 threads", ""})
        EXPECT(!find_gpu_of_device(device));
}

// A figure with sparsity, or a column taken for another, does not pass.
TEST(flops_of_data_sheets) {
    for (const Gpu& gpu : GPUS) {
        EXPECT(find_gpu(gpu.name) == &gpu);  // no name twice
        if (std::fabs(gpu.bf16 / gpu.tf32 - 2) > 0.03) FAIL("%s: bf16 %g is not twice tf32 %g", gpu.name, gpu.bf16, gpu.tf32);
        if (gpu.tf32 < 0.99 * gpu.fp32 || gpu.gib < 8) FAIL("%s: tf32 %g, fp32 %g, %g GiB", gpu.name, gpu.tf32, gpu.fp32, gpu.gib);
        if (!strncmp(gpu.name, "RTX", 3) && strlen(gpu.name) < 15 && isdigit(gpu.name[3]) && !strstr(gpu.name, "Ada"))  // GeForce: tf32 at the rate of fp32
            EXPECT(std::fabs(gpu.tf32 / gpu.fp32 - 1) < 0.01);
    }
    // B/s: one direction of a link, of slots with 16 lanes and NVLink 3, 4, 5; device memory is at least 6 times as fast
    for (const Gpu& gpu : GPUS) {
        const double links[] = {32, 64, 300, 450, 900};
        EXPECT(std::find(std::begin(links), std::end(links), gpu.link) != std::end(links));
        if (gpu.memory < 6 * gpu.link || gpu.memory < 300 || gpu.memory > 8000) FAIL("%s: memory %g GB/s, link %g", gpu.name, gpu.memory, gpu.link);
    }
    EXPECT(find_gpu("H100")->link == 450 && find_gpu("H100")->memory == 3350);
    EXPECT(!find_gpu("H9000"));
}

// 124M at T = 1024: 6 N + 6 L C T (Kaplan et al., 2020) by hand: N = 12 * 12 * 768^2 + 50257 * 768 = 123,532,032
TEST(flops_of_a_token) {
    const Config c = config_by_name("d12", 50257);
    EXPECT_EQ(flops_per_token(c, 1024), 6.0 * (84934656 + 38597376) + 6.0 * 12 * 768 * 1024);
    // SmolLM2 135M at T = 2048: a layer has 576 (576 + 2 * 192) + 576 * 576 + 3 * 576 * 1536 = 3,538,944, the head 49152 * 576
    EXPECT_EQ(flops_per_token(config_by_name("smollm2:135m", 49152), 2048), 6.0 * (30 * 3538944 + 28311552) + 6.0 * 30 * 576 * 2048);
    // Qwen3 0.6B: 16 heads of 128 are twice its width: 1024 (2048 + 2 * 1024) + 2048 * 1024 + 3 * 1024 * 3072 = 15,728,640
    EXPECT_EQ(flops_per_token(config_by_name("qwen3:0.6b", 151936), 512), 6.0 * (28 * 15728640.0 + 151936 * 1024.0) + 6.0 * 28 * 2048 * 512);
    // windows of 100 in 4 of 6 layers (short, short, short, long, short, long): at T = 400 a token sees 100 keys, the first 100 on average 50: 87.5 for 200
    EXPECT_EQ(flops_per_token(config_by_name("modern:d6w100", 1000), 400), 6.0 * (6 * 12 * 384 * 384 + 1000 * 384) + 12.0 * 384 * (4 * 87.5 + 2 * 200));
    EXPECT_EQ(flops_per_token(config_by_name("modern:d6w100", 1000), 60), flops_per_token(config_by_name("modern:d6", 1000), 60));
}
