// pictures.h: of the chapter doc/learn/matmul.md
#pragma once
#include <string>
#include "../picture.h"

// A block's tile of out, the strips of inp and weight that it needs, and the tiles of them that are in shared memory now; on the right what one thread has.
inline void draw_matmul(const std::string& folder) {
    Picture p(780, 440);
    p.text(20, 26, "out = inp @ weight^T: a block computes a tile of out, and walks along c", "start", 15);
    const double cell = 11, x0 = 40, y0 = 70, C = 12, SIDE = 16, xo = x0 + (C + 1) * cell, yo = y0 + (C + 1) * cell;  // inp on the left, weight on top, out in the corner
    auto matrix = [&](double x, double y, double w, double h) { p.box(x, y, w * cell, h * cell, "white", INK); };
    matrix(x0, yo, C, SIDE), matrix(xo, y0, SIDE, C), matrix(xo, yo, SIDE, SIDE);
    p.box(x0, yo + 4 * cell, C * cell, 4 * cell, WARM), p.box(xo + 8 * cell, y0, 4 * cell, C * cell, WARM);
    p.box(x0 + 4 * cell, yo + 4 * cell, 4 * cell, 4 * cell, ORANGE), p.box(xo + 8 * cell, y0 + 4 * cell, 4 * cell, 4 * cell, ORANGE);
    p.box(xo + 8 * cell, yo + 4 * cell, 4 * cell, 4 * cell, BLUE);
    p.text(x0 + C * cell / 2, yo + SIDE * cell + 16, "inp (N, C)", "middle"), p.text(xo + SIDE * cell / 2, yo + SIDE * cell + 16, "out (N, OC)", "middle");
    p.text(xo + SIDE * cell / 2, y0 - 8, "weight (OC, C), a column is its row o", "middle", 12);
    p.text(x0 + 4 * cell, yo + 3.4 * cell, "c moves", "start", 11), p.arrow(x0 + 8.4 * cell, yo + 6 * cell, x0 + 11.4 * cell, yo + 6 * cell), p.arrow(xo + 10 * cell, y0 + 8.4 * cell, xo + 10 * cell, y0 + 11.4 * cell);
    // register blocking: 64 x 64 elements, of which a thread has 4 x 4, 16 apart; drawn 16 x 16, 4 apart
    const double X = 470, Y = 96, small = 14;
    p.text(X, Y - 14, "the block's tile, with register blocking", "start", 14, BLUE);
    for (int r = 0; r < 16; r++)
        for (int c = 0; c < 16; c++) p.box(X + c * small, Y + r * small, small, small, r % 4 == 1 && c % 4 == 2 ? BLUE : "white", FAINT);
    for (int i = 0; i < 4; i++) p.box(X - 24, Y + (4 * i + 1) * small, 14, small, ORANGE), p.box(X + (4 * i + 2) * small, Y + 16 * small + 10, small, 14, ORANGE);
    p.text(X, Y + 16 * small + 74, "blue: the 16 elements that one thread computes", "start", 12);
    p.text(X, Y + 16 * small + 42, "orange: what it reads for one k: 4 + 4 numbers", "start", 12), p.text(X, Y + 16 * small + 58, "of shared memory, for 16 multiplications", "start", 12);
    p.text(20, 430, "pale: what the block needs in all; orange: its tiles in shared memory now; blue: the tile of out, in registers", "start", 12);
    p.write(folder, "matmul.svg");
}
