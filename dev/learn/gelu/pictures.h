// pictures.h: of the chapter doc/learn/gelu.md
#pragma once
#include <cmath>
#include <string>
#include "../picture.h"

inline void draw_gelu(const std::string& folder) {
    const double root = std::sqrt(2 / M_PI);
    auto u = [=](double x) { return root * (x + 0.044715 * x * x * x); };
    auto gelu = [=](double x) { return x / 2 * (1 + std::tanh(u(x))); };
    auto grad = [=](double x) { const double t = std::tanh(u(x)); return (1 + t) / 2 + x / 2 * (1 - t * t) * root * (1 + 3 * 0.044715 * x * x); };
    Picture p(640, 400);
    auto X = [](double x) { return 320 + x * 75; };
    auto Y = [](double y) { return 270 - y * 75; };
    p.text(20, 26, "GELU, its derivative, and ReLU", "start", 15);
    for (int x = -4; x <= 4; x++) p.line(X(x), Y(0) - 3, X(x), Y(0) + 3), p.text(X(x), Y(0) + 20, format("%d", x), "middle", 11);
    for (int y = 1; y <= 3; y++) p.line(X(0) - 3, Y(y), X(0) + 3, Y(y)), p.text(X(0) - 8, Y(y) + 4, format("%d", y), "end", 11);
    p.line(X(-4.1), Y(0), X(4.1), Y(0)), p.line(X(0), Y(-0.5), X(0), Y(3.1));
    p.curve([](double x) { return x > 0 ? x : 0; }, -4, 3.1, X, Y, FAINT, 1.5);
    p.curve(grad, -4, 4, X, Y, ORANGE);
    p.curve(gelu, -4, 3.1, X, Y, BLUE);
    p.text(X(2.1), Y(2.75), "gelu(x)", "end", 14, BLUE);
    p.text(X(3.0), Y(1.2), "gelu'(x)", "start", 14, ORANGE);
    p.text(X(-3.9), Y(0.12), "ReLU", "start", 12, "#888");
    double lowest = 0, at = 0, steepest = 0, where = 0;
    for (double x = -4; x < 4; x += 1e-4) {
        if (gelu(x) < lowest) lowest = gelu(x), at = x;
        if (grad(x) > steepest) steepest = grad(x), where = x;
    }
    p.text(20, 350, format("its smallest value is %.3f, at x = %.2f; left of there its slope is negative", lowest, at), "start", 12);
    p.text(20, 368, format("its largest slope is %.3f, at x = %.2f", steepest, where), "start", 12);
    p.text(20, 386, "ReLU has a corner, and no slope left of it; GELU lets a little through for small negative x", "start", 12);
    p.write(folder, "gelu.svg");
}
