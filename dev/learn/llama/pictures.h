// pictures.h: of the chapter doc/llama3.md
#pragma once
#include <cmath>
#include <string>
#include "../picture.h"

// Four pairs of a head at positions 0 to 7, each turned from the same beginning at its own speed.
inline void draw_rope(const std::string& folder) {
    constexpr int HS = 8;
    Picture p(780, 400);
    p.text(20, 26, "A query of HS = 8 at positions 0 to 7: pair i is turned by position * theta^(-2i/HS), theta = 100", "start", 15);
    for (int i = 0; i < HS / 2; i++) {
        const double w = std::pow(100.0, -2.0 * i / HS), y = 84 + i * 82;
        p.text(20, y - 4, format("pair %d", i), "start", 13, BLUE);
        p.text(20, y + 14, format("w = %.3f", w), "start", 12);
        for (int t = 0; t < 8; t++) {
            const double x = 140 + t * 82;
            p.circle(x, y, 30);
            p.arrow(x, y, x + 28 * std::cos(t * w), y - 28 * std::sin(t * w));
            if (i == HS / 2 - 1) p.text(x, y + 50, format("%d", t), "middle", 12);
        }
    }
    p.write(folder, "llama_rope.svg");
}

// Which head of keys and values a head of queries reads: as many, grouped, one.
inline void draw_gqa(const std::string& folder) {
    constexpr int NH = 8;
    Picture p(780, 190);
    p.text(20, 26, "Eight heads of queries (blue) and the heads of keys and values that they read (orange)", "start", 15);
    const struct { const char* title; int NKV; } kinds[] = {{"GPT-2: NKV = NH", 8}, {"grouped: NKV = 2", 2}, {"one for all: NKV = 1", 1}};
    for (int which = 0; which < 3; which++) {
        const double x0 = 20 + which * 256, step = 28;
        p.text(x0, 60, kinds[which].title, "start", 14, BLUE);
        const int group = NH / kinds[which].NKV;
        for (int h = 0; h < NH; h++) {
            const double key = x0 + (h / group * group + (group - 1) / 2.0) * step + 11;
            p.line(x0 + h * step + 11, 102, key, 142, FAINT, 1.5);
            p.box(x0 + h * step, 80, 22, 22, PALE), p.text(x0 + h * step + 11, 96, format("%d", h), "middle", 11);
            if (h % group == 0) p.box(key - 11, 142, 22, 22, WARM), p.text(key, 158, format("%d", h / group), "middle", 11);
        }
    }
    p.write(folder, "llama_gqa.svg");
}
