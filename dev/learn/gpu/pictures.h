// pictures.h: of the chapter doc/learn/gpu.md
#pragma once
#include <string>
#include "../picture.h"

// In which bank of shared memory the words of column 0 are: of rows of 8 words here, in 8 banks.
inline void draw_banks(const std::string& folder) {
    constexpr int N = 8;
    Picture p(780, 330);
    p.text(20, 26, "Eight lanes read a column, in a memory of eight banks (a GPU's has 32): an upright strip is a bank", "start", 15);
    const char* titles[] = {"rows of 8 words", "rows of 9 words", "rows of 8, XOR swizzle"};
    const char* below[] = {"one bank, eight turns", "eight banks, one turn", "eight banks, one turn"};
    for (int which = 0; which < 3; which++) {
        const double x0 = 24 + which * 256, y0 = 80, cell = 26;
        p.text(x0, 62, titles[which], "start", 14, BLUE);
        for (int line = 0; line < N + (which == 1); line++)
            for (int bank = 0; bank < N; bank++) {
                const int word = line * N + bank, row = which == 1 ? word / 9 : line, column = which == 0 ? bank : which == 1 ? word % 9 : bank ^ row;
                if (row >= N) continue;
                const bool unused = which == 1 && column == 8;
                p.box(x0 + bank * cell, y0 + line * 21, cell, 19, unused ? "#eee" : column == 0 ? ORANGE : PALE, FAINT);
                p.text(x0 + bank * cell + cell / 2, y0 + line * 21 + 14, unused ? "-" : format("%d.%d", row, column), "middle", 10, column == 0 ? "white" : INK);
            }
        p.text(x0, y0 + 9 * 21 + 20, below[which], "start", 13, ORANGE);
    }
    p.text(20, 322, "r.c: row r, column c; orange: column 0. In the middle the ninth word is never used; on the right row r has column c at c ^ r", "start", 11);
    p.write(folder, "gpu_banks.svg");
}

// A loop over four tiles, a copy of 3 units and arithmetic of 4 each: one buffer, and two.
inline void draw_buffers(const std::string& folder) {
    constexpr double COPY = 3, WORK = 4, unit = 22, x0 = 120;
    Picture p(780, 270);
    p.text(20, 26, "Four tiles: a copy takes 3, the arithmetic with it 4", "start", 15);
    auto bar = [&](double y, double from, double length, int tile, bool copy) {
        p.box(x0 + from * unit, y, length * unit, 26, copy ? PALE : WARM);
        p.text(x0 + (from + length / 2) * unit, y + 17, format("%d", tile), "middle");
    };
    p.text(20, 62, "one buffer", "start", 14, BLUE), p.text(20, 86, "copies", "start", 12), p.text(20, 116, "arithmetic", "start", 12);
    p.text(20, 162, "two buffers", "start", 14, BLUE), p.text(20, 186, "copies", "start", 12), p.text(20, 216, "arithmetic", "start", 12);
    double now = 0, end = 0;
    for (int tile = 0; tile < 4; tile++) bar(68, now, COPY, tile, true), bar(98, now + COPY, WORK, tile, false), now += COPY + WORK;
    bar(168, 0, COPY, 0, true);
    double there = COPY;
    for (int tile = 0; tile < 4; tile++) {
        const double begin = std::fmax(there, end);
        if (tile < 3) bar(168, begin, COPY, tile + 1, true), there = begin + COPY;
        bar(198, begin, WORK, tile, false), end = begin + WORK;
    }
    p.text(20, 256, format("%g and %g: with two buffers only the first copy is waited for, as long as a copy takes no longer than the arithmetic", now, end), "start", 12);
    p.write(folder, "gpu_buffers.svg");
}

// Which lane holds which elements of mma.m16n8k16's operands: b above c, a beside it.
inline void draw_mma(const std::string& folder) {
    constexpr double cell = 18, left = 40, middle = 380, top = 56, below = 372;
    Picture p(760, 690);
    p.text(20, 26, "c (16, 8) += a (16, 16) b (16, 8): in each cell the lane that has it; colours: in which register", "start", 15);
    auto at = [&](double x, double y, int r, int c, int lane, int which) {
        const char* fills[] = {PALE, WARM, "#e3f0dc", "#f3dfee"};
        p.box(x + c * cell, y + r * cell, cell, cell, fills[which], FAINT);
        p.text(x + c * cell + cell / 2, y + r * cell + 13, format("%d", lane), "middle", 10);
    };
    for (int r = 0; r < 16; r++) {
        for (int c = 0; c < 16; c++) at(left, below, r, c, r % 8 * 4 + c % 8 / 2, r / 8 + 2 * (c / 8));
        for (int c = 0; c < 8; c++) at(middle, top, r, c, c * 4 + r % 8 / 2, r / 8), at(middle, below, r, c, r % 8 * 4 + c / 2, r / 8);
    }
    p.text(middle, top - 8, "b", "start", 14, BLUE), p.text(left, below - 8, "a", "start", 14, BLUE), p.text(middle, below - 8, "c", "start", 14, BLUE);
    const char* registers[] = {"a: blue a[0], orange a[1],", "green a[2], pink a[3]", "b: blue b0, orange b1", "c: blue c[0] and c[1],", "orange c[2] and c[3]", "", "lane = 4 g + t", "a: row g, columns 2t and 2t + 1", "b: rows 2t and 2t + 1, column g", "c: row g, columns 2t and 2t + 1"};
    for (int i = 0; i < 10; i++) p.text(560, top + 20 + 22 * i, registers[i], "start", 12);
    p.write(folder, "gpu_mma.svg");
}
