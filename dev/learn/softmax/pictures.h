// pictures.h: of the chapter doc/learn/softmax.md
#pragma once
#include <cmath>
#include <string>
#include "../picture.h"

// Online softmax over six logits: the maximum so far, and the sum, which is rescaled when the maximum grows.
inline void draw_online(const std::string& folder) {
    const double x[] = {1, 3, 2, 5, 4, 5};
    Picture p(760, 330);
    p.text(20, 26, "Online softmax: one pass over the logits 1 3 2 5 4 5", "start", 15);
    double row_max = -1e30, row_sum = 0;
    for (int i = 0; i < 6; i++) {
        const double X = 40 + i * 112, base = 220, unit = 26, width = 26;
        const double before = row_max, larger = std::fmax(row_max, x[i]), scale = std::exp(before - larger);
        row_sum = row_sum * scale + std::exp(x[i] - larger), row_max = larger;
        p.box(X, base - x[i] * unit, width, x[i] * unit, PALE, BLUE);
        p.text(X + width / 2, base - x[i] * unit - 6, format("%g", x[i]), "middle", 13, BLUE);
        p.line(X - 8, base - row_max * unit, X + 70, base - row_max * unit, ORANGE, 2);
        p.text(X + 30, base + 22, format("row_max %g", row_max), "middle", 12, ORANGE);
        p.text(X + 30, base + 42, format("row_sum %.3f", row_sum), "middle", 12);
        if (i && before < larger) p.text(X + 30, base + 62, format("was times e^%g", before - larger), "middle", 11);
    }
    p.line(30, 220, 700, 220);
    p.text(20, 312, "blue: the logit that is read; orange: the maximum so far. A step needs the two numbers before it and the next logit", "start", 12);
    p.write(folder, "online_softmax.svg");
}
