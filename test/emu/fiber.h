// fiber.h: a thread of a kernel is a fiber: a stack of its own, and a switch of a few instructions.
#pragma once
#include <sys/mman.h>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include "watch.h"
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
#elif defined(__aarch64__)
asm(R"(
.text
.weak emu_switch
.type emu_switch, %function
emu_switch:
    sub sp, sp, #160
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");
#else
#error "emulator: no switch of fibers for this processor: x86-64 and aarch64 have one"
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
    // Stacks begin at multiples of 128 KB: without it the frames of all threads lie in the same few sets of a cache.
    size_t color = [] { static size_t n; return n++ % 61 * 576; }();
};

struct Switcher {  // the scheduler's side
    void* sp = nullptr;
    void* fake = nullptr;
    const void* bottom = nullptr;
    size_t size = 0;
    bool left = false;  // for a fiber that has not come to say so
    const void* left_bottom = nullptr;  // whose stack was left last: not on the stack of who arrives, as one that is done would leave red zones there for the next
    size_t left_size = 0;
};
inline Switcher the_scheduler;
EMU_OWN inline Switcher& scheduler() { return the_scheduler; }

#ifdef EMU_ASAN
// On the stack of a fiber: whoever was left is the scheduler or another fiber.
EMU_OWN inline void arrived(void* fake) {
    Switcher& s = scheduler();
    __sanitizer_finish_switch_fiber(fake, &s.left_bottom, &s.left_size);
    if (s.left) s.bottom = s.left_bottom, s.size = s.left_size, s.left = false;
}
#endif
EMU_OWN inline void resume(Fiber& f) {
#ifdef EMU_ASAN
    scheduler().left = true;
    __sanitizer_start_switch_fiber(&scheduler().fake, f.stack, STACK);
#endif
    emu_switch(&scheduler().sp, f.sp);
#ifdef EMU_ASAN
    __sanitizer_finish_switch_fiber(scheduler().fake, nullptr, nullptr);
#endif
}
// From a fiber to another one, or to the scheduler.
EMU_OWN inline void leave(Fiber& f, [[maybe_unused]] const void* bottom, [[maybe_unused]] size_t size, void* sp) {
#ifdef EMU_ASAN
    __sanitizer_start_switch_fiber(f.done ? nullptr : &f.fake, bottom, size);
#endif
    emu_switch(&f.sp, sp);
#ifdef EMU_ASAN
    arrived(f.fake);
#endif
}
EMU_OWN inline void suspend(Fiber& f) { leave(f, scheduler().bottom, scheduler().size, scheduler().sp); }
EMU_OWN inline void switch_to(Fiber& f, Fiber& next) { leave(f, next.stack, STACK, next.sp); }
inline void first_entry() {
#ifdef EMU_ASAN
    arrived(nullptr);
#endif
}
inline void prepare(Fiber& f, void (*entry)()) {
    if (!f.stack) {
        f.stack = (char*)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (f.stack == MAP_FAILED) abort();
    }
    // the stack as emu_switch would have left it, with `entry` where it returns to
    void** top = (void**)(f.stack + STACK - 64 - f.color);
#if defined(__x86_64__)
    *--top = nullptr;       // at entry rsp is 8 below a multiple of 16
    *--top = (void*)entry;
    for (int i = 0; i < 6; i++) *--top = nullptr;
#else
    for (int i = 0; i < 20; i++) *--top = nullptr;
    top[11] = (void*)entry;  // x30
#endif
    f.sp = top;
    f.done = false;
}
}  // namespace emu
