// pictures.h: of the chapter doc/learn/attention.md
#pragma once
#include <string>
#include "../picture.h"

// Flash attention: which scores exist at one moment, and what a block keeps. 16 queries and keys, tiles of 4 x 4.
inline void draw_attention(const std::string& folder) {
    constexpr int T = 16, TILE = 4, FIRST_QUERY = 8, KEY = 4;  // the block's first query; the tile of keys that it is at
    Picture p(780, 400);
    p.text(20, 26, "A block's queries loop over tiles of keys: T x T scores, of which one tile exists at a time", "start", 15);
    const double x0 = 70, y0 = 76, cell = 17;
    for (int t = 0; t < T; t++)
        for (int u = 0; u < T; u++) {
            const bool mine = t / TILE == FIRST_QUERY / TILE, now = mine && u / TILE == KEY / TILE, done = mine && u < KEY;
            p.box(x0 + u * cell, y0 + t * cell, cell, cell, u > t ? "#eee" : now ? ORANGE : done ? WARM : "white", FAINT);
        }
    for (int i = 0; i <= T; i += TILE) p.line(x0, y0 + i * cell, x0 + T * cell, y0 + i * cell), p.line(x0 + i * cell, y0, x0 + i * cell, y0 + T * cell);
    p.text(x0 + T * cell / 2, y0 - 12, "keys u", "middle", 13, BLUE);
    p.text(x0 - 8, y0 + 12, "queries t", "end", 13, BLUE);
    p.text(x0 - 8, y0 + (FIRST_QUERY + 2.3) * cell, "a block", "end", 12);
    p.text(x0 + 14 * cell, y0 + 6.3 * cell, "masked", "middle", 13, "#888");
    const double X = 400;
    p.text(X, 76, "shared memory of the block", "start", 14, BLUE);
    p.box(X, 86, 110, 28, PALE, BLUE), p.text(X + 55, 105, "its queries", "middle");
    p.box(X + 120, 86, 110, 28, ORANGE, INK), p.text(X + 175, 105, "a tile of keys", "middle");
    p.box(X + 240, 86, 110, 28, ORANGE, INK), p.text(X + 295, 105, "their values", "middle");
    p.text(X, 150, "registers, for each query", "start", 14, BLUE);
    p.box(X, 160, 70, 28, WARM), p.text(X + 35, 179, "row_max", "middle");
    p.box(X + 80, 160, 70, 28, WARM), p.text(X + 115, 179, "row_sum", "middle");
    p.box(X + 160, 160, 190, 28, WARM), p.text(X + 255, 179, "o: HS floats", "middle");
    const char* steps[] = {"1. copy a tile of keys and values", "2. scores of the tile (orange), their maximum", "3. rescale row_sum and o, if the maximum grew", "4. add p to row_sum, p times values to o", "then the next tile; behind the last: out = o / row_sum"};
    for (int i = 0; i < 5; i++) p.text(X, 226 + 24 * i, steps[i], "start", 13);
    p.text(20, 376, "orange: scores that exist now; pale: seen before, nothing is left of them but row_max, row_sum and o; grey: masked.", "start", 12);
    p.text(20, 392, "Tiles that are all grey are never computed; white tiles are other blocks', and this block's next", "start", 12);
    p.write(folder, "attention.svg");
}
