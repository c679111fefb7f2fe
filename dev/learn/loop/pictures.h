// pictures.h: of the chapter doc/learn/loop.md
#pragma once
#include <string>
#include "../picture.h"

// Eight leaves as a binary tree; below, which GPU has which of them: each has whole subtrees.
inline void draw_loop(const std::string& folder) {
    Picture p(760, 400);
    p.text(20, 26, "Eight leaves, added as a binary tree: the order does not know of GPUs", "start", 15);
    auto X = [](double leaf) { return 150 + leaf * 76; };
    const char* fills[] = {PALE, WARM, "#e3f0e0", "#f3d9e4"};
    for (int level = 0, width = 1; width <= 8; level++, width *= 2)
        for (int begin = 0; begin < 8; begin += width) {
            const double x = X(begin + (width - 1) / 2.0), y = 260 - level * 64;
            if (level > 0)
                for (int half = 0; half < 2; half++) p.line(x, y + 26, X(begin + half * width / 2 + (width / 2 - 1) / 2.0), y + 64, INK);
            p.box(x - 26, y, 52, 26, level == 0 ? PALE : "white");
            p.text(x, y + 18, level == 0 ? format("leaf %d", begin) : format("%d-%d", begin, begin + width - 1), "middle", 11);
        }
    p.text(20, 86, "the sum of all"), p.text(20, 278, "leaves");
    for (int gpus = 1, row = 0; gpus <= 4; gpus *= 2, row++)
        for (int g = 0; g < gpus; g++) {
            const double left = X(g * 8.0 / gpus) - 30, y = 304 + row * 26;
            p.box(left, y, 8.0 / gpus * 76 - 16, 20, fills[g]);
            p.text(left + (8.0 / gpus * 76 - 16) / 2, y + 15, format("GPU %d", g), "middle", 11);
            if (g == 0) p.text(20, y + 15, gpus == 1 ? "on one GPU" : format("on %d GPUs", gpus), "start", 12);
        }
    p.text(20, 394, "each GPU adds its own subtree, and what is above it is added between them: the same additions, the same bits", "start", 12);
    p.write(folder, "loop.svg");
}
