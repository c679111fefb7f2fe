// warp.h: what the threads of a block and the lanes of a warp do together.
#pragma once
#include <algorithm>
#include <bit>
#include <type_traits>
#include "blocks.h"

inline void __syncthreads(emu::Where where = emu::Where::current()) { emu::barrier(0, where); }
inline int __syncthreads_or(int p, emu::Where where = emu::Where::current()) { emu::barrier(p, where); return emu::machine().block->met_any; }
inline int __syncthreads_and(int p, emu::Where where = emu::Where::current()) { emu::barrier(p, where); return emu::machine().block->met_all; }
inline int __syncthreads_count(int p, emu::Where where = emu::Where::current()) { emu::barrier(p, where); return emu::machine().block->met_count; }

// The only one of the warp's operations that orders memory.
inline void __syncwarp(unsigned mask = 0xffffffff) {
    emu::warp_collective<char>(mask, (char)0, [mask](const char*, char*) {
        EMU_WATCH(warp_sync(emu::machine().block->number, emu::machine().thread->linear / 32, mask));
    });
}

namespace emu {
// out[l] = the value of lane from(l, its argument), or its own where that lies outside of its part of the warp.
template <class X, class From> EMU_OWN X shuffle(unsigned mask, X x, int argument, From from) {
    struct In { X x; int argument; };
    return warp_collective<X>(mask, In{x, argument}, [=](const In* in, X* out) EMU_INLINE {
        for (int l = 0; l < 32; l++) {
            const int source = from(l, in[l].argument);
            if (source < 0) { out[l] = in[l].x; continue; }
            if ((mask >> l & 1) && !(mask >> source & 1)) fault("a shuffle reads a lane that its mask does not name");
            out[l] = in[source].x;
        }
    });
}
}  // namespace emu
template <class X> X __shfl_sync(unsigned mask, X x, int lane, int width = 32) {
    return emu::shuffle(mask, x, lane, [=](int l, int a) EMU_INLINE { return l / width * width + (a & (width - 1)); });
}
template <class X> X __shfl_xor_sync(unsigned mask, X x, int bits, int width = 32) {
    return emu::shuffle(mask, x, bits, [=](int l, int a) EMU_INLINE { return (l ^ a) / width <= l / width && (l ^ a) < 32 ? l ^ a : -1; });
}
template <class X> X __shfl_down_sync(unsigned mask, X x, unsigned by, int width = 32) {
    return emu::shuffle(mask, x, (int)by, [=](int l, int a) EMU_INLINE { return l % width + a < width ? l + a : -1; });
}
template <class X> X __shfl_up_sync(unsigned mask, X x, unsigned by, int width = 32) {
    return emu::shuffle(mask, x, (int)by, [=](int l, int a) EMU_INLINE { return l % width - a >= 0 ? l - a : -1; });
}

inline unsigned __ballot_sync(unsigned mask, int p) {
    return emu::warp_collective<unsigned>(mask, p, [](const int* in, unsigned* out) EMU_INLINE {
        unsigned votes = 0;
        for (int l = 0; l < 32; l++) votes |= (unsigned)(in[l] != 0) << l;
        std::fill_n(out, 32, votes);
    });
}
inline int __any_sync(unsigned mask, int p) { return __ballot_sync(mask, p) != 0; }
inline int __all_sync(unsigned mask, int p) { return __ballot_sync(mask, p) == mask; }
inline unsigned __activemask() { return ~0u; }  // as if all had come: nobody may rely on it
template <class X> unsigned __match_any_sync(unsigned mask, X x) {
    return emu::warp_collective<unsigned>(mask, x, [=](const X* in, unsigned* out) EMU_INLINE {
        for (int l = 0; l < 32; l++) {
            out[l] = 0;
            for (int o = 0; o < 32; o++) out[l] |= (unsigned)((mask >> o & 1) && in[o] == in[l]) << o;
        }
    });
}

namespace emu {
template <class X, class Join> X reduce(unsigned mask, X x, Join join) {
    return warp_collective<X>(mask, x, [=](const X* in, X* out) EMU_INLINE {
        X all = in[std::countr_zero(mask)];
        for (int l = std::countr_zero(mask) + 1; l < 32; l++) if (mask >> l & 1) all = join(all, in[l]);
        std::fill_n(out, 32, all);
    });
}
}  // namespace emu
template <class X> X __reduce_add_sync(unsigned mask, X x) { return emu::reduce(mask, x, [](X a, X b) EMU_INLINE { return (X)(a + b); }); }
template <class X> X __reduce_min_sync(unsigned mask, X x) { return emu::reduce(mask, x, [](X a, X b) EMU_INLINE { return std::min(a, b); }); }
template <class X> X __reduce_max_sync(unsigned mask, X x) { return emu::reduce(mask, x, [](X a, X b) EMU_INLINE { return std::max(a, b); }); }
template <class X> X __reduce_and_sync(unsigned mask, X x) { return emu::reduce(mask, x, [](X a, X b) EMU_INLINE { return (X)(a & b); }); }
template <class X> X __reduce_or_sync(unsigned mask, X x) { return emu::reduce(mask, x, [](X a, X b) EMU_INLINE { return (X)(a | b); }); }
template <class X> X __reduce_xor_sync(unsigned mask, X x) { return emu::reduce(mask, x, [](X a, X b) EMU_INLINE { return (X)(a ^ b); }); }
