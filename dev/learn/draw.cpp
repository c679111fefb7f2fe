// draw.cpp: the pictures of the chapters, as SVG: build/learn/draw FOLDER; prints the names of what it wrote. Numbers in them are computed here.
#include <cmath>
#include <functional>
#include <string>
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
}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) die_with(EXIT_USAGE, "usage: draw FOLDER");
    draw_shapes(argv[1]), draw_coalescing(argv[1]), draw_online(argv[1]), draw_gelu(argv[1]), draw_attention(argv[1]), draw_matmul(argv[1]);
}
