// pictures.h: of the chapter doc/learn/ranks.md
#pragma once
#include <string>
#include "../picture.h"

// Four ranks in a ring: of each piece on each rank, how many ranks' numbers are in it, through reduce-scatter and all-gather.
inline void draw_ring(const std::string& folder) {
    constexpr int W = 4;
    constexpr double cell = 22, panel = 108;
    Picture p(790, 250);
    p.text(20, 26, "Four ranks (rows), four pieces (columns): how many ranks' numbers are in each", "start", 15);
    int x[W][W];
    for (auto& row : x) for (int& n : row) n = 1;
    auto draw = [&](int which, const char* title, int got) {  // got: rank r has just received piece r - got; W: none
        const double x0 = 20 + which * panel;
        p.text(x0, 62, title, "start", 12, BLUE);
        for (int r = 0; r < W; r++)
            for (int c = 0; c < W; c++) {
                const bool now = got < W && c == (r - got + 2 * W) % W;
                p.box(x0 + c * cell, 74 + r * 30, cell, 24, now ? ORANGE : x[r][c] == W ? WARM : PALE, FAINT);
                p.text(x0 + c * cell + cell / 2, 74 + r * 30 + 17, format("%d", x[r][c]), "middle", 12, now ? "white" : INK);
            }
    };
    draw(0, "begin", W);
    for (int s = 0; s < W - 1; s++) {
        int sent[W];
        for (int r = 0; r < W; r++) sent[r] = x[r][(r - s - 1 + 2 * W) % W];
        for (int r = 0; r < W; r++) x[r][(r - s - 2 + 2 * W) % W] += sent[(r + W - 1) % W];
        draw(1 + s, s == 0 ? "reduce-scatter 0" : format("%d", s).c_str(), s + 2);
    }
    for (int s = 0; s < W - 1; s++) {
        for (int r = 0; r < W; r++) x[r][(r - s - 1 + 2 * W) % W] = W;
        draw(W + s, s == 0 ? "all-gather 0" : format("%d", s).c_str(), s + 1);
    }
    p.text(20, 222, "orange: has just come from the left neighbour, the row above (the last row for the first). After step 2 of the reduce-scatter", "start", 12);
    p.text(20, 240, "rank r has the sum of piece r; each step moves one piece a rank", "start", 12);
    p.write(folder, "ranks_ring.svg");
}

// Eight leaves as a binary tree, and which of its nodes each rank makes.
inline void draw_tree(const std::string& folder) {
    constexpr double step = 80, x0 = 150, bottom = 232;
    Picture p(790, 350);
    p.text(20, 26, "Gradients of eight leaves, added as a binary tree", "start", 15);
    for (int level = 0; level <= 3; level++) {
        const double y = bottom - level * 56;
        for (int node = 0; node < 8 >> level; node++) {
            const double span = step * (1 << level), x = x0 + (node + 0.5) * span;
            if (level < 3) p.line(x, y - 13, x0 + (node / 2 + 0.5) * 2 * span, y - 56 + 13, INK);
            p.box(x - 20, y - 13, 40, 26, level == 0 ? PALE : level == 3 ? ORANGE : WARM);
            p.text(x, y + 5, level == 0 ? format("%d", node) : format("%d-%d", node << level, ((node + 1) << level) - 1), "middle", 12, level == 3 ? "white" : INK);
        }
    }
    for (int k = 0; k < 3; k++) {
        const int ranks = 1 << k;
        const double y = bottom + 36 + k * 24;
        p.text(20, y + 4, format("%d rank%s", ranks, k ? "s" : ""), "start", 13, BLUE);
        for (int r = 0; r < ranks; r++) {
            p.box(x0 + r * 8 * step / ranks + 4, y - 9, 8 * step / ranks - 8, 18, PALE, BLUE);
            p.text(x0 + (r + 0.5) * 8 * step / ranks, y + 4, format("rank %d makes %d-%d", r, r * 8 / ranks, (r + 1) * 8 / ranks - 1), "middle", 11);
        }
    }
    p.text(20, 342, "whatever the number of ranks, the same pairs are added: the same bits", "start", 12);
    p.write(folder, "ranks_tree.svg");
}

// Backward of 12 blocks and the exchange of their gradients over a network, to scale: the numbers of the page.
inline void draw_overlap(const std::string& folder) {
    constexpr double C = 768, block = 12 * C * C, backward = 1e3 * 4 * 32768 * block / (0.8 * 989e12), wire = 1e3 * 4 * 7 / 8 / (0.85 * 50e9), unit = 36, x0 = 116;
    Picture p(790, 200);
    p.text(20, 26, "GPT-2 124M: backward of 12 blocks, and the exchange of their gradients over 400 Gb/s a GPU, in ms", "start", 15);
    p.text(20, 72, "products", "start", 12), p.text(20, 112, "exchange", "start", 12);
    double free = 0;
    for (int b = 0; b < 12; b++) {
        const double begin = b * backward, ready = begin + backward, at = std::fmax(free, ready);
        p.box(x0 + begin * unit, 54, backward * unit, 28, WARM), p.text(x0 + (begin + backward / 2) * unit, 73, format("%d", 12 - b), "middle", 12);
        p.box(x0 + at * unit, 94, wire * block * unit, 28, PALE), free = at + wire * block;
    }
    const double embeddings = wire * (50257 + 1024) * C;
    p.box(x0 + free * unit, 94, embeddings * unit, 28, ORANGE), p.text(x0 + (free + embeddings / 2) * unit, 113, "embeddings", "middle", 12, "white");
    for (int t = 0; t <= 18; t += 2) p.text(x0 + t * unit, 148, format("%d", t), "middle", 11), p.line(x0 + t * unit, 128, x0 + t * unit, 134);
    p.text(20, 184, format("%.1f ms hidden behind the products; of the last block and the embeddings %.1f ms are exposed", wire * block * 11, free + embeddings - 12 * backward), "start", 12);
    p.write(folder, "ranks_overlap.svg");
}
