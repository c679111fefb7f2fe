// pictures.h: of the chapter doc/learn/shapes.md
#pragma once
#include <string>
#include "../picture.h"

// One row of T = 64 tokens through GPT-2 124M: every tensor, its shape and its floats.
inline void draw_shapes(const std::string& folder) {
    const struct { const char *name, *shape; double floats; bool kept; } STEPS[] = {
        {"tokens", "(T)", 64, false}, {"encoded", "(T, C)", 64 * 768, true}, {"ln1", "(T, C)", 64 * 768, false}, {"qkv", "(T, 3C)", 64 * 3 * 768, false},
        {"scores", "(NH, T, T)", 12 * 64 * 64, false}, {"atty", "(T, C)", 64 * 768, false}, {"residual2", "(T, C)", 64 * 768, true}, {"ln2", "(T, C)", 64 * 768, false},
        {"fch, fch_gelu", "(T, 4C)", 64 * 4 * 768, false}, {"residual3", "(T, C)", 64 * 768, true}, {"lnf", "(T, C)", 64 * 768, false}, {"logits", "(T, V)", 64 * 50257, false}};
    Picture p(760, 520);
    p.text(20, 26, "One row of T = 64 tokens through GPT-2 124M (C = 768, NH = 12, V = 50257)", "start", 15);
    p.text(20, 46, "width of a bar: floats, on a scale of powers of ten. Orange: the residual stream, which blocks add to", "start", 12);
    double y = 62;
    int i = 0;
    for (const auto& s : STEPS) {
        const double w = 22 + 66 * std::log10(s.floats / 10);
        if (i == 2) p.box(10, y - 4, 738, 8 * 36 - 2, "#f7f7f7", FAINT), p.text(738, y + 12, "a block: 12 times", "end", 12);
        p.box(190, y, w, 24, s.kept ? WARM : PALE);
        p.text(180, y + 17, s.name, "end");
        p.text(198, y + 17, s.shape, "start", 12);
        p.text(200 + w + 6, y + 17, s.floats >= 1e6 ? format("%.2f million floats", s.floats / 1e6) : format("%.0f %s", s.floats, i == 0 ? "integers" : "floats"), "start", 12);
        if (i > 0) p.arrow(30, y - 14, 30, y + 4);
        y += 36, i++;
    }
    p.text(20, y + 12, "with a batch of B rows every shape but the weights' begins with B, and N = B * T rows go through each layer", "start", 12);
    p.write(folder, "shapes.svg");
}
