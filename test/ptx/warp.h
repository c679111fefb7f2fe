// warp.h: what the lanes of a warp do together, and the threads of a block: the last lane to come does it for all. Who comes, and to which
// instruction, is looked at. (PTX ISA, "Parallel Synchronization and Communication Instructions", "Warp Level Matrix Instructions")
#pragma once
#include "arithmetic.h"
#include "memory.h"

namespace ptx {
struct Arrival { Lane* lane; const Instruction* at; };

inline unsigned threads_of_block() { return blockDim.x * blockDim.y * blockDim.z; }
inline bool has_ended(unsigned thread) { return thread >= threads_of_block() || emu::machine().block->threads[thread]->fiber.done; }

// The lanes of `mask` come to the same instruction, and what it does is done.
inline void meet(Lane& lane, const Instruction& i, unsigned mask) {
    const unsigned first = emu::machine().thread->linear / 32 * 32;
    if (emu::machine().block->warps[first / 32].n == 0)  // the first to come; lanes that end after it say so
        for (unsigned l = 0; l < 32; l++)
            if ((mask >> l & 1) && has_ended(first + l)) fault(i, "lane " + std::to_string(l) + " takes part, and has ended");
    emu::warp_collective<char>(mask, Arrival{&lane, &i}, [&](const Arrival* in, char*) {
        Lane* lanes[32] = {};
        for (unsigned l = 0; l < 32; l++) {
            if (!(mask >> l & 1)) continue;
            lanes[l] = in[l].lane;
            if (in[l].at != &i) fault(i, "lane " + std::to_string(l) + " is at " + in[l].at->text->name + " (line " + std::to_string(in[l].at->text->line) + ")");
        }
        if (i.meet) i.meet(lanes, mask, i);
    });
}
// A lane ends, on which others may be waiting.
inline void end(Lane& lane, const Instruction&) {
    const emu::Thread& me = *emu::machine().thread;
    const emu::Warp& warp = emu::machine().block->warps[me.linear / 32];
    for (unsigned n = 0; n < warp.n; n++)
        if (const emu::Rendezvous& r = warp.open[n]; r.mask >> me.linear % 32 & 1) {
            const Arrival& waits = *(const Arrival*)r.in[std::countr_zero(r.arrived)];
            fault(*waits.at, "lane " + std::to_string(me.linear % 32) + " takes part, and ends");
        }
    lane.ended = true;
}

// .aligned: the whole warp, or as much of it as the block has.
inline void barrier(Lane& lane, const Instruction& i) {
    if (get<uint32_t>(lane, i.r[0]) != 0) fault(i, "of the barriers only 0 is known");
    const unsigned lanes = std::min(32u, threads_of_block() - emu::machine().thread->linear / 32 * 32);
    meet(lane, i, lanes == 32 ? ~0u : (1u << lanes) - 1);
    emu::barrier(0, emu::Where::current());
}
inline void whole_warp(Lane& lane, const Instruction& i) { meet(lane, i, ~0u); }
template <int MASK> void lanes_of_mask(Lane& lane, const Instruction& i) { meet(lane, i, get<uint32_t>(lane, i.r[MASK])); }

inline std::unordered_map<std::string, std::pair<Execute, Meet>>& meetings() { static std::unordered_map<std::string, std::pair<Execute, Meet>> m; return m; }

// d|p, a, b, c, mask: each gets a of the lane that f(lane, b) gives, where that is within bounds; else its own, and p is false.
enum Shuffle { UP, DOWN, BFLY, IDX };
template <Shuffle mode> void shuffle(Lane* const* lanes, unsigned mask, const Instruction& i) {
    uint32_t values[32] = {};
    for (int l = 0; l < 32; l++) if (mask >> l & 1) values[l] = get<uint32_t>(*lanes[l], i.r[2]);
    for (int l = 0; l < 32; l++) {
        if (!(mask >> l & 1)) continue;
        const int b = get<int>(*lanes[l], i.r[3]) & 31, c = get<int>(*lanes[l], i.r[4]), segment = c >> 8 & 31;
        const int last = (l & segment) | (c & 31 & ~segment), first = l & segment;
        int from = mode == UP ? l - b : mode == DOWN ? l + b : mode == BFLY ? l ^ b : first | (b & ~segment);
        const bool within = mode == UP ? from >= last : from <= last;
        if (!within) from = l;
        if (!(mask >> from & 1)) fault(i, "lane " + std::to_string(l) + " reads lane " + std::to_string(from) + ", which the mask does not name");
        set(*lanes[l], i.r[0], values[from]), set(*lanes[l], i.r[1], within);
    }
}
// The predicate a of each lane, a bit each: ballot, any, all.
template <class F> void define_vote(const std::string& name, F) {
    meetings()[name] = {lanes_of_mask<2>, [](Lane* const* lanes, unsigned mask, const Instruction& i) {
        unsigned votes = 0;
        for (unsigned l = 0; l < 32; l++) if (mask >> l & 1) votes |= (unsigned)get<bool>(*lanes[l], i.r[1]) << l;
        for (unsigned l = 0; l < 32; l++) if (mask >> l & 1) set(*lanes[l], i.r[0], F{}(votes, mask));
    }};
}
inline void match_any(Lane* const* lanes, unsigned mask, const Instruction& i) {
    for (unsigned l = 0; l < 32; l++) {
        uint32_t same = 0;
        if (!(mask >> l & 1)) continue;
        for (unsigned k = 0; k < 32; k++)
            if ((mask >> k & 1) && get<uint32_t>(*lanes[k], i.r[1]) == get<uint32_t>(*lanes[l], i.r[1])) same |= 1u << k;
        set(*lanes[l], i.r[0], same);
    }
}

// ---- matrices ---------------------------------------------------------------------------------------------------------------------------------
// The manual numbers the elements of a lane's fragment a0..a7, b0..b3, c0..c3, from the lower half of the first register on, and says where each one is:
struct Element { int row, column; };
inline Element of_a(int lane, int e) { return {lane / 4 + (e < 2 || (e >= 4 && e < 6) ? 0 : 8), lane % 4 * 2 + (e & 1) + (e < 4 ? 0 : 8)}; }
inline Element of_b(int lane, int e) { return {lane % 4 * 2 + (e & 1) + (e < 2 ? 0 : 8), lane / 4}; }
inline Element of_c(int lane, int e) { return {lane / 4 + (e < 2 ? 0 : 8), lane % 4 * 2 + (e & 1)}; }

inline double bf16_of(Lane& lane, const Instruction& i, int first, int e) {
    return std::bit_cast<float>(get<uint32_t>(lane, i.r[first + e / 2]) >> 16 * (e & 1) << 16);
}
// d, a, b, c of 4, 4, 2 and 4 registers. The sums are exact but for the last rounding: a tensor core's are between that and a float's.
inline void mma_m16n8k16_bf16(Lane* const* lanes, unsigned, const Instruction& i) {
    double a[16][16], b[16][8], c[16][8];
    for (int l = 0; l < 32; l++) {
        for (int e = 0; e < 8; e++) a[of_a(l, e).row][of_a(l, e).column] = bf16_of(*lanes[l], i, 4, e);
        for (int e = 0; e < 4; e++) b[of_b(l, e).row][of_b(l, e).column] = bf16_of(*lanes[l], i, 8, e);
        for (int e = 0; e < 4; e++) c[of_c(l, e).row][of_c(l, e).column] = get<float>(*lanes[l], i.r[10 + e]);
    }
    for (int m = 0; m < 16; m++)
        for (int k = 0; k < 16; k++)
            for (int n = 0; n < 8; n++) c[m][n] += a[m][k] * b[k][n];
    for (int l = 0; l < 32; l++)
        for (int e = 0; e < 4; e++) set(*lanes[l], i.r[e], canonical((float)c[of_c(l, e).row][of_c(l, e).column]));
}
// d of `count` registers, address: lanes 8k to 8k + 7 give the rows of matrix k. Of it a lane gets elements 2 (l % 4) and the next of row l / 4, or of column
// l / 4 if transposed.
template <bool transposed> void ldmatrix(Lane* const* lanes, unsigned, const Instruction& i) {
    uint16_t rows[32][8];
    for (int l = 0; l < 8 * i.count; l++) memcpy(rows[l], place(*lanes[l], i, i.r[i.count], SHARED, 16, false), 16);
    for (int l = 0; l < 32; l++)
        for (int k = 0; k < i.count; k++) {
            const auto element = [&](int e) { return (uint32_t)(transposed ? rows[8 * k + l % 4 * 2 + e][l / 4] : rows[8 * k + l / 4][l % 4 * 2 + e]); };
            set(*lanes[l], i.r[k], element(0) | element(1) << 16);
        }
}

inline void define_warp() {
    auto& m = meetings();
    for (const char* name : {"bar.sync", "barrier.sync.aligned"}) table()[name] = barrier;
    m["bar.warp.sync"] = {lanes_of_mask<0>, nullptr};
    m["shfl.sync.up.b32"] = {lanes_of_mask<5>, shuffle<UP>}, m["shfl.sync.down.b32"] = {lanes_of_mask<5>, shuffle<DOWN>};
    m["shfl.sync.bfly.b32"] = {lanes_of_mask<5>, shuffle<BFLY>}, m["shfl.sync.idx.b32"] = {lanes_of_mask<5>, shuffle<IDX>};
    define_vote("vote.sync.ballot.b32", [](unsigned votes, unsigned) { return votes; });
    define_vote("vote.sync.any.pred", [](unsigned votes, unsigned) { return votes != 0; });
    define_vote("vote.sync.all.pred", [](unsigned votes, unsigned mask) { return votes == mask; });
    m["match.any.sync.b32"] = {lanes_of_mask<2>, match_any};
    m["mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"] = {whole_warp, mma_m16n8k16_bf16};
    for (const char* count : {"x1", "x2", "x4"}) {
        m[std::string("ldmatrix.sync.aligned.m8n8.") + count + ".shared.b16"] = {whole_warp, ldmatrix<false>};
        m[std::string("ldmatrix.sync.aligned.m8n8.") + count + ".trans.shared.b16"] = {whole_warp, ldmatrix<true>};
    }
}
}  // namespace ptx
