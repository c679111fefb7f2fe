// pictures.h: of the chapter doc/learn/memory.md
#pragma once
#include <algorithm>
#include <string>
#include "../picture.h"

// Three plans for the five buffers of the page: phases from left to right, offsets upwards.
inline void draw_memory(const std::string& folder) {
    const int bytes[] = {1, 2, 2, 5, 3}, begin[] = {0, 1, 0, 2, 0}, end[] = {1, 3, 1, 2, 0};
    const char* fills[] = {PALE, WARM, "#e3f0e0", "#f3d9e4", "#eee6fa"};
    const struct { const char* title; const char* order; } plans[] = {{"in the order of their beginnings", "acebd"}, {"largest first", "debca"}, {"the best: as much as phase 2 needs", "dbace"}};
    Picture p(780, 406);
    p.text(20, 26, "Three plans for five buffers: first fit in three orders", "start", 15);
    for (int which = 0; which < 3; which++) {
        const double x0 = 50 + which * 250, base = 330, cell = 46, unit = 24;
        int offset[5], placed[5], n = 0, total = 0;
        for (const char* x = plans[which].order; *x; x++) {
            const int i = *x - 'a';
            offset[i] = 0;
            for (bool moved = true; moved;) {
                moved = false;
                for (int k = 0; k < n; k++) {
                    const int o = placed[k];
                    if (begin[o] <= end[i] && begin[i] <= end[o] && offset[i] < offset[o] + bytes[o] && offset[o] < offset[i] + bytes[i]) offset[i] = offset[o] + bytes[o], moved = true;
                }
            }
            placed[n++] = i, total = std::max(total, offset[i] + bytes[i]);
            p.box(x0 + begin[i] * cell, base - (offset[i] + bytes[i]) * unit, (end[i] - begin[i] + 1) * cell, bytes[i] * unit, fills[i]);
            p.text(x0 + (begin[i] + end[i] + 1) * cell / 2, base - (offset[i] + bytes[i] / 2.0) * unit + 5, format("%c", *x), "middle", 14);
        }
        p.line(x0, base, x0 + 4 * cell, base, INK, 1.5);
        p.line(x0, base - total * unit, x0 + 4 * cell, base - total * unit, ORANGE, 2);
        p.text(x0 - 8, base - total * unit + 5, format("%d", total), "end", 13, ORANGE);
        for (int phase = 0; phase < 4; phase++) p.text(x0 + (phase + 0.5) * cell, base + 18, format("%d", phase), "middle", 11);
        p.text(x0, 58, plans[which].title, "start", 12, BLUE);
        p.text(x0 + 2 * cell, base + 38, format("order %s", plans[which].order), "middle", 11);
    }
    p.text(20, 396, "a box: when a buffer is needed (phases, to the right) and where it lies (offsets, upwards); no two boxes may overlap", "start", 12);
    p.write(folder, "memory.svg");
}
