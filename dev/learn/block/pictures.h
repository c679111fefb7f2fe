// pictures.h: of the chapter doc/learn/block.md
#pragma once
#include <string>
#include "../picture.h"

// The residual stream through a block: two branches that leave it and are added to it; below, the gradient on its way back.
inline void draw_block(const std::string& folder) {
    Picture p(800, 400);
    p.text(20, 26, "A block: the residual stream is read twice and added to twice", "start", 15);
    const char* branches[2][4] = {{"norm", "linear", "attention", "linear"}, {"norm", "linear", "GELU", "linear"}};
    const char* between[2][4] = {{"ln1", "qkv", "atty", ""}, {"ln2", "fch", "fch_gelu", ""}};
    auto row = [&](double stream, double up, bool forward) {
        const char* names[] = {"residual", "residual2", "residual3"};
        const char* color = forward ? BLUE : ORANGE;
        p.line(50, stream, 785, stream, color, 3);
        for (int half = 0; half < 2; half++) {
            const double x0 = 110 + half * 330, x1 = x0 + 290;
            for (int i = 0; i < 4; i++) {
                const double x = x0 + 22 + i * 66;
                p.box(x, up, 54, 26, forward ? PALE : WARM), p.text(x + 27, up + 17, branches[half][i], "middle", 11);
                if (i < 3) forward ? p.arrow(x + 54, up + 13, x + 65, up + 13) : p.arrow(x + 66, up + 13, x + 55, up + 13);
                p.text(x + 60, up - 6, (forward || !*between[half][i] ? "" : "d") + std::string(between[half][i]), "middle", 10);
            }
            if (forward) p.arrow(x0, stream, x0 + 22, up + 26), p.arrow(x1 - 16, up + 26, x1 + 3, stream - 8);
            else p.arrow(x1 + 2, stream, x1 - 16, up + 26), p.arrow(x0 + 22, up + 26, x0 + 6, stream - 8);
            p.box(forward ? x1 : x0 - 4, stream - 7, 13, 13, "white", color);
            p.text(forward ? x1 + 6.5 : x0 + 2.5, stream + 6, "+", "middle", 18, color);
            p.text(x0 - 20, stream + 24, (forward ? "" : "d") + std::string(names[half]), "middle", 12, color);
        }
        p.text(745, stream + 24, (forward ? "" : "d") + std::string(names[2]), "middle", 12, color);
    };
    p.text(20, 62, "forward, from left to right", "start", 12, BLUE);
    row(160, 84, true);
    p.text(20, 232, "backward, from right to left: each + of the forward forks, each fork is a +", "start", 12, ORANGE);
    row(330, 254, false);
    p.text(20, 388, "one array, dresidual, is the orange line: norm's backward adds to it, nothing else writes to it", "start", 12);
    p.write(folder, "block.svg");
}
