// draw.cpp: the pictures of the chapters, as SVG: build/learn/draw FOLDER; prints the names of what it wrote. Numbers in them are computed here.
#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include "../../llmc/base/bf16.h"
#include "../../llmc/base/rng.h"
#include "../../llmc/io/files.h"

namespace {
constexpr const char *INK = "#222", *FAINT = "#bbb", *BLUE = "#3b6ea8", *ORANGE = "#d9822b", *PALE = "#dce8f5", *WARM = "#fbe3c8";

class Picture {
public:
    Picture(int width, int height) {
        svg_ = format("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
                      width, height, width, height);
    }
    void box(double x, double y, double w, double h, const char* fill, const char* edge = INK) {
        svg_ += format("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\" stroke=\"%s\"/>\n", x, y, w, h, fill, edge);
    }
    void text(double x, double y, const std::string& s, const char* anchor = "start", int size = 13, const char* fill = INK) {
        svg_ += format("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" font-size=\"%d\" fill=\"%s\">%s</text>\n", x, y, anchor, size, fill, s.c_str());
    }
    void line(double x1, double y1, double x2, double y2, const char* stroke = INK, double width = 1) {
        svg_ += format("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" stroke-width=\"%.1f\"/>\n", x1, y1, x2, y2, stroke, width);
    }
    void arrow(double x1, double y1, double x2, double y2) {
        const double a = std::atan2(y2 - y1, x2 - x1);
        line(x1, y1, x2, y2);
        line(x2, y2, x2 - 7 * std::cos(a - 0.4), y2 - 7 * std::sin(a - 0.4));
        line(x2, y2, x2 - 7 * std::cos(a + 0.4), y2 - 7 * std::sin(a + 0.4));
    }
    void curve(const std::function<double(double)>& f, double from, double to, const std::function<double(double)>& X, const std::function<double(double)>& Y, const char* stroke, double width = 2) {
        std::string points;
        for (int i = 0; i <= 200; i++) {
            const double x = from + (to - from) * i / 200;
            points += format("%.1f,%.1f ", X(x), Y(f(x)));
        }
        svg_ += format("<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"%.1f\"/>\n", points.c_str(), stroke, width);
    }
    void write(const std::string& folder, const std::string& name) {
        write_file_atomically(folder + "/" + name, svg_ + "</svg>\n");
        printf("%s\n", name.c_str());
    }

private:
    std::string svg_;
};

// One row of T = 64 tokens through GPT-2 124M: every tensor, its shape and its floats.
void draw_shapes(const std::string& folder) {
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

// What the 32 lanes of a warp read at once of (N, C) floats, C = 64: the sectors of 32 bytes that memory must fetch for it.
void draw_coalescing(const std::string& folder) {
    constexpr int ROWS = 8, SECTORS = 8;  // of 64 floats: a row is 8 sectors of 8 floats
    Picture p(780, 330);
    p.text(20, 26, "What a warp asks for at once: three ways to give its 32 lanes elements of (N, C), C = 64", "start", 15);
    const char* titles[] = {"a thread a row", "a warp a row", "a warp a row, 16 bytes a lane"};
    const char* below[] = {"32 sectors of 32 bytes for 128 bytes", "4 sectors for 128 bytes", "16 sectors for 512 bytes"};
    for (int which = 0; which < 3; which++) {
        const double x0 = 24 + which * 252, y0 = 80, cell = 3.4, h = 20;
        p.text(x0, 62, titles[which], "start", 14, BLUE);
        for (int r = 0; r < ROWS; r++) {
            for (int s = 0; s < SECTORS; s++) {
                const bool fetched = which == 0 ? s == 0 : which == 1 ? r == 0 && s < 4 : r < 2;
                p.box(x0 + s * 8 * cell, y0 + r * (h + 4), 8 * cell, h, fetched ? WARM : "white", FAINT);
                for (int c = 0; c < 8; c++) {
                    const int column = s * 8 + c;
                    const bool read = which == 0 ? column == 0 : which == 1 ? r == 0 && column < 32 : r < 2;
                    if (read) p.box(x0 + column * cell + 0.4, y0 + r * (h + 4) + 3, cell - 0.8, h - 6, ORANGE, "none");
                }
            }
        }
        p.text(x0, y0 + ROWS * (h + 4) + 16, which == 0 ? "lane l in row l: 8 of 32 rows are shown" : which == 1 ? "lane l in column l of one row" : "lane l in columns 4 l to 4 l + 3", "start", 12);
        p.text(x0, y0 + ROWS * (h + 4) + 34, below[which], "start", 12, ORANGE);
    }
    p.text(20, 322, "orange: read; pale: fetched, as memory gives sectors of 32 bytes. On the right a warp reads 128 floats: two of these short rows", "start", 11);
    p.write(folder, "coalescing.svg");
}

// Online softmax over six logits: the maximum so far, and the sum, which is rescaled when the maximum grows.
void draw_online(const std::string& folder) {
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
    p.text(20, 312, "blue: the logit that is read; orange: the maximum so far. A step needs the two numbers before it and the next logit, no more", "start", 12);
    p.write(folder, "online_softmax.svg");
}

void draw_gelu(const std::string& folder) {
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
// Flash attention: which scores exist at one moment, and what a block keeps. 16 queries and keys, tiles of 4 x 4.
void draw_attention(const std::string& folder) {
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
// A block's tile of out, the strips of inp and weight that it needs, and the tiles of them that are in shared memory now; on the right what one thread has.
void draw_matmul(const std::string& folder) {
    Picture p(780, 440);
    p.text(20, 26, "out = inp @ weight^T: a block computes a tile of out, and walks along c", "start", 15);
    const double cell = 11, x0 = 40, y0 = 70, C = 12, SIDE = 16, xo = x0 + (C + 1) * cell, yo = y0 + (C + 1) * cell;  // inp on the left, weight on top, out in the corner
    auto matrix = [&](double x, double y, double w, double h) { p.box(x, y, w * cell, h * cell, "white", INK); };
    matrix(x0, yo, C, SIDE), matrix(xo, y0, SIDE, C), matrix(xo, yo, SIDE, SIDE);
    p.box(x0, yo + 4 * cell, C * cell, 4 * cell, WARM), p.box(xo + 8 * cell, y0, 4 * cell, C * cell, WARM);
    p.box(x0 + 4 * cell, yo + 4 * cell, 4 * cell, 4 * cell, ORANGE), p.box(xo + 8 * cell, y0 + 4 * cell, 4 * cell, 4 * cell, ORANGE);
    p.box(xo + 8 * cell, yo + 4 * cell, 4 * cell, 4 * cell, BLUE);
    p.text(x0 + C * cell / 2, yo + SIDE * cell + 16, "inp (N, C)", "middle"), p.text(xo + SIDE * cell / 2, yo + SIDE * cell + 16, "out (N, OC)", "middle");
    p.text(xo + SIDE * cell / 2, y0 - 8, "weight (OC, C), a column is its row o", "middle", 12);
    p.text(x0 + 4 * cell, yo + 3.4 * cell, "c moves", "start", 11), p.arrow(x0 + 8.4 * cell, yo + 6 * cell, x0 + 11.4 * cell, yo + 6 * cell), p.arrow(xo + 10 * cell, y0 + 8.4 * cell, xo + 10 * cell, y0 + 11.4 * cell);
    // register blocking: 64 x 64 elements, of which a thread has 4 x 4, 16 apart; drawn 16 x 16, 4 apart
    const double X = 470, Y = 96, small = 14;
    p.text(X, Y - 14, "the block's tile, with register blocking", "start", 14, BLUE);
    for (int r = 0; r < 16; r++)
        for (int c = 0; c < 16; c++) p.box(X + c * small, Y + r * small, small, small, r % 4 == 1 && c % 4 == 2 ? BLUE : "white", FAINT);
    for (int i = 0; i < 4; i++) p.box(X - 24, Y + (4 * i + 1) * small, 14, small, ORANGE), p.box(X + (4 * i + 2) * small, Y + 16 * small + 10, small, 14, ORANGE);
    p.text(X, Y + 16 * small + 74, "blue: the 16 elements that one thread computes", "start", 12);
    p.text(X, Y + 16 * small + 42, "orange: what it reads for one k: 4 + 4 numbers", "start", 12), p.text(X, Y + 16 * small + 58, "of shared memory, for 16 multiplications", "start", 12);
    p.text(20, 430, "pale: what the block needs in all; orange: its tiles in shared memory now; blue: the tile of out, in registers", "start", 12);
    p.write(folder, "matmul.svg");
}

// A batch's tokens in their order and sorted by id: which rows of dout each row of dwte is the sum of.
void draw_embedding(const std::string& folder) {
    const int inp[] = {0, 2, 0, 2, 0, 1}, order[] = {0, 2, 4, 5, 1, 3}, first[] = {0, 3, 4, 6};
    const char* fills[] = {PALE, "#e3f0e0", WARM};
    Picture p(700, 330);
    p.text(20, 26, "The gradient of tokens: sorted, each row of dwte has one owner", "start", 15);
    p.text(20, 62, "rows n of dout, with their tokens");
    p.text(20, 172, "sorted by token, stable");
    p.text(20, 272, "rows of dwte");
    auto X = [](int i) { return 270.0 + i * 66; };
    for (int n = 0; n < 6; n++) {
        p.box(X(n), 46, 56, 28, fills[inp[n]]);
        p.text(X(n) + 28, 65, format("n = %d", n), "middle", 12);
        p.text(X(n) + 28, 40, format("token %d", inp[n]), "middle", 11);
    }
    for (int i = 0; i < 6; i++) {
        p.box(X(i), 154, 56, 28, fills[inp[order[i]]]);
        p.text(X(i) + 28, 173, format("n = %d", order[i]), "middle", 12);
        p.arrow(X(order[i]) + 28, 76, X(i) + 28, 152);
    }
    for (int v = 0; v < 3; v++) {
        const double left = X(first[v]), right = X(first[v + 1] - 1) + 56, middle = (left + right) / 2;
        p.line(left, 190, right, 190, INK, 2);
        p.arrow(middle, 192, middle, 250);
        p.box(middle - 40, 254, 80, 28, fills[v]);
        p.text(middle, 273, format("dwte[%d]", v), "middle", 12);
        p.text(middle + 6, 226, format("%d row%s", first[v + 1] - first[v], first[v + 1] - first[v] > 1 ? "s" : ""), "start", 11);
    }
    p.text(20, 316, "a warp adds the rows above its line from left to right: the order of additions is the batch's, whoever comes first", "start", 12);
    p.write(folder, "embedding.svg");
}

// A weight of 1 from which 1e-4 is taken in each step: in fp32, in bf16 rounded to nearest, in bf16 rounded stochastically.
void draw_adamw(const std::string& folder) {
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

// The residual stream through a block: two branches that leave it and are added to it; below, the gradient on its way back.
void draw_block(const std::string& folder) {
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
    p.text(20, 388, "one array, dresidual, is the orange line: norm's backward adds to it, nothing else touches it", "start", 12);
    p.write(folder, "block.svg");
}

// Three plans for the five buffers of the page: phases from left to right, offsets upwards.
void draw_memory(const std::string& folder) {
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
// In which bank of shared memory the words of column 0 are: of rows of 8 words here, in 8 banks.
void draw_banks(const std::string& folder) {
    constexpr int N = 8;
    Picture p(780, 330);
    p.text(20, 26, "Eight lanes read a column, in a memory of eight banks (a GPU's has 32): an upright strip is a bank", "start", 15);
    const char* titles[] = {"rows of 8 words", "rows of 9 words", "rows of 8, XOR swizzle"};
    const char* below[] = {"one bank, eight turns", "eight banks, one turn", "eight banks, one turn"};
    for (int which = 0; which < 3; which++) {
        const double x0 = 24 + which * 256, y0 = 80, cell = 26;
        p.text(x0, 62, titles[which], "start", 14, BLUE);
        for (int line = 0; line < N + (which == 1); line++)
            for (int bank = 0; bank < N; bank++) {
                const int word = line * N + bank, row = which == 1 ? word / 9 : line, column = which == 0 ? bank : which == 1 ? word % 9 : bank ^ row;
                if (row >= N) continue;
                const bool unused = which == 1 && column == 8;
                p.box(x0 + bank * cell, y0 + line * 21, cell, 19, unused ? "#eee" : column == 0 ? ORANGE : PALE, FAINT);
                p.text(x0 + bank * cell + cell / 2, y0 + line * 21 + 14, unused ? "-" : format("%d.%d", row, column), "middle", 10, column == 0 ? "white" : INK);
            }
        p.text(x0, y0 + 9 * 21 + 20, below[which], "start", 13, ORANGE);
    }
    p.text(20, 322, "r.c: row r, column c; orange: column 0. In the middle the ninth word is never used; on the right row r has column c at c ^ r", "start", 11);
    p.write(folder, "gpu_banks.svg");
}

// A loop over four tiles, a copy of 3 units and arithmetic of 4 each: one buffer, and two.
void draw_buffers(const std::string& folder) {
    constexpr double COPY = 3, WORK = 4, unit = 22, x0 = 120;
    Picture p(780, 270);
    p.text(20, 26, "Four tiles: a copy takes 3, the arithmetic with it 4", "start", 15);
    auto bar = [&](double y, double from, double length, int tile, bool copy) {
        p.box(x0 + from * unit, y, length * unit, 26, copy ? PALE : WARM);
        p.text(x0 + (from + length / 2) * unit, y + 17, format("%d", tile), "middle");
    };
    p.text(20, 62, "one buffer", "start", 14, BLUE), p.text(20, 86, "copies", "start", 12), p.text(20, 116, "arithmetic", "start", 12);
    p.text(20, 162, "two buffers", "start", 14, BLUE), p.text(20, 186, "copies", "start", 12), p.text(20, 216, "arithmetic", "start", 12);
    double now = 0, end = 0;
    for (int tile = 0; tile < 4; tile++) bar(68, now, COPY, tile, true), bar(98, now + COPY, WORK, tile, false), now += COPY + WORK;
    bar(168, 0, COPY, 0, true);
    double there = COPY;
    for (int tile = 0; tile < 4; tile++) {
        const double begin = std::fmax(there, end);
        if (tile < 3) bar(168, begin, COPY, tile + 1, true), there = begin + COPY;
        bar(198, begin, WORK, tile, false), end = begin + WORK;
    }
    p.text(20, 256, format("%g and %g: with two buffers only the first copy is waited for, as long as a copy takes no longer than the arithmetic", now, end), "start", 12);
    p.write(folder, "gpu_buffers.svg");
}

// Which lane holds which elements of mma.m16n8k16's operands: b above c, a beside it.
void draw_mma(const std::string& folder) {
    constexpr double cell = 18, left = 40, middle = 380, top = 56, below = 372;
    Picture p(760, 690);
    p.text(20, 26, "c (16, 8) += a (16, 16) b (16, 8): in each cell the lane that has it; colours: in which register", "start", 15);
    auto at = [&](double x, double y, int r, int c, int lane, int which) {
        const char* fills[] = {PALE, WARM, "#e3f0dc", "#f3dfee"};
        p.box(x + c * cell, y + r * cell, cell, cell, fills[which], FAINT);
        p.text(x + c * cell + cell / 2, y + r * cell + 13, format("%d", lane), "middle", 10);
    };
    for (int r = 0; r < 16; r++) {
        for (int c = 0; c < 16; c++) at(left, below, r, c, r % 8 * 4 + c % 8 / 2, r / 8 + 2 * (c / 8));
        for (int c = 0; c < 8; c++) at(middle, top, r, c, c * 4 + r % 8 / 2, r / 8), at(middle, below, r, c, r % 8 * 4 + c / 2, r / 8);
    }
    p.text(middle, top - 8, "b", "start", 14, BLUE), p.text(left, below - 8, "a", "start", 14, BLUE), p.text(middle, below - 8, "c", "start", 14, BLUE);
    const char* registers[] = {"a: blue a[0], orange a[1],", "green a[2], pink a[3]", "b: blue b0, orange b1", "c: blue c[0] and c[1],", "orange c[2] and c[3]", "", "lane = 4 g + t", "a: row g, columns 2t and 2t + 1", "b: rows 2t and 2t + 1, column g", "c: row g, columns 2t and 2t + 1"};
    for (int i = 0; i < 10; i++) p.text(560, top + 20 + 22 * i, registers[i], "start", 12);
    p.write(folder, "gpu_mma.svg");
}
// Four ranks in a ring: of each piece on each rank, how many ranks' numbers are in it, through reduce-scatter and all-gather.
void draw_ring(const std::string& folder) {
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
void draw_tree(const std::string& folder) {
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
void draw_overlap(const std::string& folder) {
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
}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) die_with(EXIT_USAGE, "usage: draw FOLDER");
    draw_shapes(argv[1]), draw_coalescing(argv[1]), draw_online(argv[1]), draw_gelu(argv[1]), draw_attention(argv[1]), draw_matmul(argv[1]);
    draw_embedding(argv[1]), draw_adamw(argv[1]), draw_block(argv[1]), draw_memory(argv[1]), draw_banks(argv[1]);
    draw_buffers(argv[1]), draw_mma(argv[1]), draw_ring(argv[1]), draw_tree(argv[1]), draw_overlap(argv[1]);
}
