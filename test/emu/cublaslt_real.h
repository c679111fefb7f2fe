// cublaslt_real.h: EMU_CUBLASLT=/path/to/libcublasLt.so.13 puts each product of the emulated program to the library itself, for it to say
// whether it refuses the call's arguments. Versions 12.4 to 13.4 do that before they look at a device, so none is needed; a handle is one
// whose bytes are not zero. Without a device they then find no algorithm, which is their answer to a call that is right:
// CUBLAS_STATUS_NOT_SUPPORTED, and no more said than that. 13.6 to 13.10 look at the device first, and cannot be asked.
#pragma once
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include "cublaslt_rules.h"

namespace emu {
class RealCublasLt {
public:
    bool answers() const { return answers_; }
    size_t version() const { return version_; }

    // Why the library refuses a call, in its words; empty if it does not.
    std::string refusal(const Product& p, const Layout& a, const Layout& b, const Layout& c, const Layout& d, const Operands& o) {
        if (!o.alpha || !o.beta) return "";  // it reads them
        void *product = nullptr, *layouts[4] = {};
        int status = create_product_(&product, p.compute, p.scale);
        const auto set = [&](int name, const void* value, size_t bytes) { if (!status) status = set_product_(product, name, value, bytes); };
        said().clear();
        set(CUBLASLT_MATMUL_DESC_TRANSA, &p.transpose_a, 4), set(CUBLASLT_MATMUL_DESC_TRANSB, &p.transpose_b, 4), set(CUBLASLT_MATMUL_DESC_EPILOGUE, &p.epilogue, 4);
        if (p.bias) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p.bias, 8);
        if (p.bias_type >= 0) set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &p.bias_type, 4);
        if (p.aux) set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &p.aux, 8);
        if (p.aux_ld) set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &p.aux_ld, 8);
        if (p.aux_type >= 0) set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, &p.aux_type, 4);
        const Layout* all[4] = {&a, &b, &c, &d};
        for (int i = 0; i < 4 && !status; i++) {
            status = create_layout_(&layouts[i], all[i]->type, all[i]->rows, all[i]->cols, all[i]->ld);
            if (!status && all[i]->order != CUBLASLT_ORDER_COL) status = set_layout_(layouts[i], CUBLASLT_MATRIX_LAYOUT_ORDER, &all[i]->order, 4);
            if (!status && all[i]->batch != 1) status = set_layout_(layouts[i], CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &all[i]->batch, 4);
        }
        static char handle[1 << 16];
        memset(handle, 1, sizeof handle);
        if (!status) status = matmul_(handle, product, o.alpha, o.a, layouts[0], o.b, layouts[1], o.beta, o.c, layouts[2], (void*)o.d, layouts[3], nullptr, (void*)o.workspace, o.workspace_bytes, nullptr);
        for (void* l : layouts) if (l) destroy_layout_(l);
        if (product) destroy_product_(product);
        const bool nothing_said = said().empty() || said() == "Failed to query heuristics.";
        if (status == CUBLAS_STATUS_NOT_SUPPORTED && nothing_said) return "";
        return "status " + std::to_string(status) + ": " + (nothing_said ? "no reason given" : said());
    }

    explicit RealCublasLt(const char* path) {
        if (!path) return;
        void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!library) { fprintf(stderr, "emulator: EMU_CUBLASLT: %s\n", dlerror()); exit(1); }
        size_t (*get_version)() = nullptr;
        int (*set_callback)(void (*)(int, const char*, const char*)) = nullptr, (*set_level)(int) = nullptr, (*set_file)(FILE*) = nullptr;
        find(library, get_version, "cublasLtGetVersion"), find(library, set_callback, "cublasLtLoggerSetCallback"), find(library, set_level, "cublasLtLoggerSetLevel"), find(library, set_file, "cublasLtLoggerSetFile");
        find(library, create_product_, "cublasLtMatmulDescCreate"), find(library, set_product_, "cublasLtMatmulDescSetAttribute"), find(library, destroy_product_, "cublasLtMatmulDescDestroy");
        find(library, create_layout_, "cublasLtMatrixLayoutCreate"), find(library, set_layout_, "cublasLtMatrixLayoutSetAttribute"), find(library, destroy_layout_, "cublasLtMatrixLayoutDestroy");
        find(library, matmul_, "cublasLtMatmul");
        version_ = get_version();
        set_file(fopen("/dev/null", "w"));
        set_callback([](int, const char*, const char* message) { if (said().empty()) said() = message; });
        set_level(1);  // errors
        answers_ = probe();
        if (!answers_) fprintf(stderr, "emulator: EMU_CUBLASLT: version %zu does not look at a call's arguments without a device: it is not asked\n", version_);
    }

private:
    // Whether a call that is right comes back as one, and a wrong one does not; in a process of its own, which may die of it.
    bool probe() {
        fflush(nullptr);
        const pid_t child = fork();
        if (child == 0) {
            signal(SIGSEGV, SIG_DFL);
            const float one = 1;
            char* p = (char*)0x100000;
            const Layout l{CUDA_R_16BF, 16, 16, 16};
            Product product{CUBLAS_COMPUTE_32F, CUDA_R_32F};
            const Operands o{&one, &one, p, p, p, p, p, 4096};
            const bool right = refusal(product, l, l, l, l, o).empty();
            product.bias = p;
            _exit(right && !refusal(product, l, l, l, l, o).empty() ? 0 : 1);
        }
        int status = 1;
        return child > 0 && waitpid(child, &status, 0) == child && status == 0;
    }
    template <class F> static void find(void* library, F& f, const char* name) {
        void* at = dlsym(library, name);
        if (!at) { fprintf(stderr, "emulator: EMU_CUBLASLT: no %s in it\n", name); exit(1); }
        memcpy((void*)&f, &at, sizeof at);
    }
    static std::string& said() { static std::string s; return s; }

    size_t version_ = 0;
    bool answers_ = false;
    int (*create_product_)(void**, int, int) = nullptr, (*set_product_)(void*, int, const void*, size_t) = nullptr, (*destroy_product_)(void*) = nullptr;
    int (*create_layout_)(void**, int, uint64_t, uint64_t, int64_t) = nullptr, (*set_layout_)(void*, int, const void*, size_t) = nullptr, (*destroy_layout_)(void*) = nullptr;
    int (*matmul_)(void*, void*, const void*, const void*, void*, const void*, void*, const void*, const void*, void*, void*, void*, const void*, void*, size_t, void*) = nullptr;
};
inline RealCublasLt& real_cublaslt() { static RealCublasLt r(getenv("EMU_CUBLASLT")); return r; }
}  // namespace emu
