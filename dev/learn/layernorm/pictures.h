// pictures.h: of the chapter doc/learn/layernorm.md
#pragma once
#include <string>
#include "../picture.h"

// What the 32 lanes of a warp read at once of (N, C) floats, C = 64: the sectors of 32 bytes that memory must fetch for it.
inline void draw_coalescing(const std::string& folder) {
    constexpr int ROWS = 8, SECTORS = 8;  // of 64 floats: a row is 8 sectors of 8 floats
    Picture p(780, 330);
    p.text(20, 26, "What a warp asks for at once: three ways to give its 32 lanes elements of (N, C), C = 64", "start", 15);
    const char* titles[] = {"a thread a row", "a warp a row", "a warp a row, 16 bytes a lane"};
    const char* below[] = {"32 sectors of 32 bytes for 128 bytes", "4 sectors for 128 bytes", "16 sectors for 512 bytes"};
    for (int which = 0; which < 3; which++) {
        const double x0 = 24 + which * 252, y0 = 80, cell = 3.4, h = 20;
        p.text(x0, 62, titles[which], "start", 14, BLUE);
        for (int r = 0; r < ROWS; r++) {
            for (int s = 0; s < SECTORS; s++) {
                const bool fetched = which == 0 ? s == 0 : which == 1 ? r == 0 && s < 4 : r < 2;
                p.box(x0 + s * 8 * cell, y0 + r * (h + 4), 8 * cell, h, fetched ? WARM : "white", FAINT);
                for (int c = 0; c < 8; c++) {
                    const int column = s * 8 + c;
                    const bool read = which == 0 ? column == 0 : which == 1 ? r == 0 && column < 32 : r < 2;
                    if (read) p.box(x0 + column * cell + 0.4, y0 + r * (h + 4) + 3, cell - 0.8, h - 6, ORANGE, "none");
                }
            }
        }
        p.text(x0, y0 + ROWS * (h + 4) + 16, which == 0 ? "lane l in row l: 8 of 32 rows are shown" : which == 1 ? "lane l in column l of one row" : "lane l in columns 4 l to 4 l + 3", "start", 12);
        p.text(x0, y0 + ROWS * (h + 4) + 34, below[which], "start", 12, ORANGE);
    }
    p.text(20, 322, "orange: read; pale: fetched, as memory gives sectors of 32 bytes. On the right a warp reads 128 floats: two of these short rows", "start", 11);
    p.write(folder, "coalescing.svg");
}
