// fiber.h: a thread of a kernel is a fiber: a stack of its own, and a switch of a few instructions.
#pragma once
#include <sys/mman.h>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>
#if defined(__SANITIZE_ADDRESS__)
#define EMU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMU_ASAN 1
#endif
#endif
#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

extern "C" void emu_switch(void** save, void* load);
#if defined(__x86_64__)
asm(R"(
.text
.weak emu_switch
.type emu_switch, @function
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
#else
#error "emulator: no switch of fibers for this processor yet"
#endif

namespace emu {
#ifdef EMU_ASAN
constexpr size_t STACK = 512 << 10;
#else
constexpr size_t STACK = 128 << 10;
#endif

struct Fiber {
    char* stack = nullptr;
    void* sp = nullptr;
    void* fake = nullptr;
    bool done = true;
};

struct Switcher {  // the scheduler's side
    void* sp = nullptr;
    void* fake = nullptr;
    const void* bottom = nullptr;
    size_t size = 0;
};
inline Switcher& scheduler() { static Switcher s; return s; }

inline void resume(Fiber& f) {
#ifdef EMU_ASAN
    __sanitizer_start_switch_fiber(&scheduler().fake, f.stack, STACK);
#endif
    emu_switch(&scheduler().sp, f.sp);
#ifdef EMU_ASAN
    __sanitizer_finish_switch_fiber(scheduler().fake, nullptr, nullptr);
#endif
}
inline void suspend(Fiber& f) {
#ifdef EMU_ASAN
    __sanitizer_start_switch_fiber(f.done ? nullptr : &f.fake, scheduler().bottom, scheduler().size);
#endif
    emu_switch(&f.sp, scheduler().sp);
#ifdef EMU_ASAN
    __sanitizer_finish_switch_fiber(f.fake, &scheduler().bottom, &scheduler().size);
#endif
}
inline void first_entry() {
#ifdef EMU_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &scheduler().bottom, &scheduler().size);
#endif
}
inline void prepare(Fiber& f, void (*entry)()) {
    if (!f.stack) {
        f.stack = (char*)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (f.stack == MAP_FAILED) abort();
    }
    void** top = (void**)(f.stack + STACK - 64);
    *--top = nullptr;              // alignment: at entry rsp = 16n + 8
    *--top = (void*)entry;         // return address of the first switch
    for (int i = 0; i < 6; i++) *--top = nullptr;
    f.sp = top;
    f.done = false;
}
}  // namespace emu
