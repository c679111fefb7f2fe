// pictures.h: of the chapter doc/learn/adamw.md
#pragma once
#include <string>
#include "../../../llmc/base/rng.h"
#include "../../../llmc/base/bf16.h"
#include "../picture.h"

// A weight of 1 from which 1e-4 is taken in each step: in fp32, in bf16 rounded to nearest, in bf16 rounded stochastically.
inline void draw_adamw(const std::string& folder) {
    constexpr int STEPS = 2000;
    const float update = 1e-4f;
    auto X = [](double step) { return 70 + step * 0.31; };
    auto Y = [](double p) { return 50 + (1.0 - p) * 1100; };
    Picture p(740, 360);
    p.text(20, 26, "A weight of 1, from which 0.0001 is taken in each step", "start", 15);
    for (double w : {1.0, 0.9, 0.8}) p.line(X(0), Y(w), X(STEPS), Y(w), "#eee"), p.text(X(0) - 8, Y(w) + 4, format("%.1f", w), "end", 11);
    for (int s = 0; s <= STEPS; s += 500) p.text(X(s), Y(0.78) + 16, format("%d", s), "middle", 11);
    p.text(X(STEPS), Y(0.78) + 34, "steps", "end", 12);
    p.line(X(0), Y(1), X(STEPS), Y(1 - STEPS * (double)update), INK, 1.5);
    float nearest = 1, stochastic = 1;
    int since = 0;  // that the stochastic weight has been what it is
    for (int s = 0; s < STEPS; s++) {
        const float before = stochastic;
        nearest = bf16(nearest - update), stochastic = round_stochastic(stochastic - update, philox(1, RNG_ROUNDING, (uint32_t)s, 0).x[0]);
        if (stochastic == before && s + 1 < STEPS) continue;
        p.line(X(since), Y((double)before), X(s + 1), Y((double)before), BLUE, 1.5), p.line(X(s + 1), Y((double)before), X(s + 1), Y((double)stochastic), BLUE, 1.5);
        since = s + 1;
    }
    p.line(X(0), Y(1) - 2, X(STEPS), Y((double)nearest) - 2, ORANGE, 2.5);
    p.text(X(STEPS) - 4, Y(1) + 18, format("bf16, rounded to nearest: %g after %d steps", (double)nearest, STEPS), "end", 12, ORANGE);
    p.text(X(700), Y(0.855), "bf16, rounded stochastically", "end", 12, BLUE);
    p.text(X(1180), Y(0.862), "fp32", "end", 12);
    p.text(20, 350, "below 1 bf16 has steps of 1/256, thirty-nine updates: each is lost, or one in thirty-nine becomes a whole step", "start", 12);
    p.write(folder, "adamw.svg");
}
