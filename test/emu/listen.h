// listen.h: what the host asks for and what the device does, to whoever wants to know: a program sets emu::listener(), and
// EMU_TRACE=file writes a line for each.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include "watch.h"

namespace emu {
struct Event {
    enum Kind { CALL, WAIT, WORK } kind;  // a call of the runtime or the library; the host waits in it; the device has done something
    std::string name;
    Traffic moved = {};                   // bytes of device memory: of kernels in the watched build only
    const void* label = nullptr;          // what label() was when the work was asked for, be it into a graph that is launched later
};
inline const void*& label() { static const void* l = nullptr; return l; }

inline std::function<void(const Event&)> trace(const char* path) {
    FILE* file = path ? fopen(path, "w") : nullptr;
    if (!file) return nullptr;
    return [file](const Event& e) {
        const char* kinds[] = {"call", "wait", "work"};
        fprintf(file, "%s %s", kinds[e.kind], e.name.c_str());
        if (e.kind == Event::WORK) fprintf(file, "  read %zu written %zu distinct %zu %zu", (size_t)e.moved.read, (size_t)e.moved.written,
                                           (size_t)e.moved.distinct_read, (size_t)e.moved.distinct_written);
        fputc('\n', file), fflush(file);
    };
}
inline std::function<void(const Event&)>& listener() {
    static std::function<void(const Event&)> f = trace(getenv("EMU_TRACE"));
    return f;
}
inline void tell(const Event& e) { if (listener()) listener()(e); }
// What touches each byte once.
inline Traffic once(size_t read, size_t written) { return {read, written, read, written}; }
}  // namespace emu
