// machine.h: a decoded kernel, and a thread that executes it: registers of 8 bytes, and a function for each instruction. What does not change while a
// kernel runs (literals, addresses of variables) or not while a thread does (%tid) is in registers too, so that an operand is always a register.
#pragma once
#include <cstdint>
#include <cstring>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include "../emu/cuda_runtime.h"
#include "parse.h"

namespace ptx {
struct Lane;
struct Instruction;
using Execute = void (*)(Lane&, const Instruction&);
using Meet = void (*)(Lane* const* lanes, unsigned mask, const Instruction&);  // what lanes of a warp do together

enum Space : uint8_t { GENERIC, GLOBAL, SHARED, LOCAL, PARAM };
constexpr uint16_t ALWAYS = 0xffff;
struct Instruction {
    Execute execute = nullptr;
    Meet meet = nullptr;
    const Statement* text = nullptr;
    int offset = 0;                         // added to an address; where a branch goes
    uint16_t guard = ALWAYS;                // a predicate's register
    bool negated = false;
    Space space = GENERIC;
    uint8_t bytes = 0, count = 1;           // of an element in memory; how many
    bool is_signed = false, read_only = false;
    uint16_t r[16] = {};                    // operands in the order of the text
};

constexpr unsigned SHARED_BASE = 1024;      // the first shared address that a kernel may have; as on sm_90, where the system takes 1 KB
struct Kernel {
    Function text;
    std::vector<Instruction> code;
    std::vector<uint64_t> registers;        // as a thread finds them: literals and addresses; what nobody has written is all ones, a NaN
    std::vector<std::pair<uint16_t, uint64_t (*)()>> specials;
    std::vector<std::pair<uint16_t, size_t>> locals;  // registers that hold an address of local memory, and where in it
    size_t param_bytes = 0, local_bytes = 0, static_bytes = 0;  // static: shared memory before the dynamic
    bool has_read_only = false;             // loads by ld.global.nc
};
// A launch of it, on which its threads look together.
struct Launch {
    const Kernel* kernel;
    std::vector<char> params;
    size_t shared_bytes;                    // static and dynamic
    std::unordered_set<uint64_t> read_only, written;  // bytes of global memory; kept only where the kernel has_read_only
};
struct Lane {
    Launch* launch;
    uint64_t* r;
    int next = 0;                           // statement
    bool ended = false;
};

template <class T> T get(const Lane& lane, unsigned at) {
    T x;
    memcpy(&x, &lane.r[at], sizeof x);
    return x;
}
// A signed integer is extended to the width of whatever register it is written to.
template <class T> void set(Lane& lane, unsigned at, T x) {
    if constexpr (std::is_integral_v<T>) lane.r[at] = (uint64_t)x;
    else if constexpr (sizeof(T) == 4) lane.r[at] = std::bit_cast<uint32_t>(x);
    else lane.r[at] = std::bit_cast<uint64_t>(x);
}

inline void fault(const Instruction& i, const std::string& what) {
    emu::fault(i.text->name + " (line " + std::to_string(i.text->line) + "): " + what);
}

inline void execute(Lane& lane) {
    const Instruction* code = lane.launch->kernel->code.data();
    while (!lane.ended) {
        const Instruction& i = code[lane.next++];
        if (i.guard == ALWAYS || (lane.r[i.guard] & 1) != i.negated) i.execute(lane, i);
    }
}

using Table = std::unordered_map<std::string, Execute>;
inline Table& table() { static Table t; return t; }

// The instruction `name`: d = f(a, b, ...), of types D and A...
template <class D, class... A, class F> void define(const std::string& name, F) {
    table()[name] = [](Lane& lane, const Instruction& i) {
        [&]<size_t... N>(std::index_sequence<N...>) { set<D>(lane, i.r[0], (D)F{}(get<A>(lane, i.r[N + 1])...)); }(std::index_sequence_for<A...>{});
    };
}
}  // namespace ptx
