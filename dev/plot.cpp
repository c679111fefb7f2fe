// plot.cpp: the loss curve of a run, from its metrics.jsonl: drawn in the terminal, and as an SVG file; then a line that says
// where the run ended.
//     build/plot out/metrics.jsonl out/loss.svg
#include <cmath>
#include <string>
#include <vector>
#include "../llmc/io/files.h"
#include "../llmc/io/json.h"
#include "../llmc/train/log.h"

struct Point { double step, loss; };
struct Curves { std::vector<Point> train, val; std::string end; };  // end: in words
struct Range {
    double low = INFINITY, high = -INFINITY;
    void add(double x) { low = std::fmin(low, x), high = std::fmax(high, x); }
    double part(double x) const { return high > low ? (x - low) / (high - low) : 0.5; }
};

static Curves read_curves(const std::string& path) {
    Curves curves;
    std::string text = read_file(path), answers;
    int line = 0;
    for (size_t at = 0, end; at < text.size(); at = end + 1) {
        end = std::min(text.find('\n', at), text.size());
        Json json = json_parse(std::string_view(text).substr(at, end - at), path, ++line);
        const Json *step = json.find("step"), *loss = json.find("loss"), *val = json.find("val_loss");
        if (step && loss && loss->type == Json::NUMBER) curves.train.push_back({step->as_double(path), loss->as_double(path)});
        if (step && val && val->type == Json::NUMBER) {
            curves.val.push_back({step->as_double(path), val->as_double(path)});
            const Json *bits = json.find("val_bits_per_byte"), *floor = json.find("floor_bits_per_byte");
            if (bits && floor && bits->type == Json::NUMBER)
                curves.end = format("%.3f bits a byte; no model can need fewer than %.3f: %.2fx of perfect", bits->as_double(path),
                                    floor->as_double(path), bits->as_double(path) / floor->as_double(path));
        }
        if (json.find("right")) {
            const auto score = [&](const char* field) { return json.find(field) ? json.at(field, path).as_double(path) : NAN; };
            answers = format("; %s: %.0f questions: %s", json.at("eval", path).as_string(path).c_str(), score("total"),
                             eval_scores(score("acc"), score("acc_norm"), score("chance"), score("completions")).c_str());
        }
    }
    if (!curves.end.empty()) curves.end += answers;
    CHECK(!curves.train.empty(), "%s: no step in it", path.c_str());
    return curves;
}

// One character cell is 2 x 4 dots of Unicode's Braille block.
static void draw_in_terminal(const Curves& curves, Range x, Range y) {
    constexpr int COLUMNS = 72, ROWS = 14;
    constexpr unsigned DOTS[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    std::vector<unsigned> cells(COLUMNS * ROWS);
    for (const Point& p : curves.train) {
        int column = (int)(x.part(p.step) * (2 * COLUMNS - 1)), row = (int)((1 - y.part(p.loss)) * (4 * ROWS - 1));
        cells[(size_t)(row / 4 * COLUMNS + column / 2)] |= DOTS[row % 4][column % 2];
    }
    for (int row = 0; row < ROWS; row++) {
        printf("%8.3f |", y.high - (y.high - y.low) * row / (ROWS - 1));
        for (int column = 0; column < COLUMNS; column++) {
            unsigned c = 0x2800 + cells[(size_t)(row * COLUMNS + column)];
            if (c == 0x2800) putchar(' ');
            else printf("%c%c%c", 0xE0 | (int)(c >> 12), 0x80 | (int)(c >> 6 & 63), 0x80 | (int)(c & 63));
        }
        printf("\n");
    }
    printf("%8s +%s\n%8s  step %-30.0f%*.0f\n", "loss", std::string(COLUMNS, '-').c_str(), "", x.low, COLUMNS - 35, x.high);
}

static std::string draw_svg(const Curves& curves, Range x, Range y) {
    constexpr double WIDTH = 800, HEIGHT = 450, LEFT = 60, TOP = 20, RIGHT = 20, BOTTOM = 45;
    auto px = [&](double v) { return LEFT + x.part(v) * (WIDTH - LEFT - RIGHT); };
    auto py = [&](double v) { return TOP + (1 - y.part(v)) * (HEIGHT - TOP - BOTTOM); };
    std::string svg = format("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" font-family=\"sans-serif\" font-size=\"12\">\n"
                             "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n", WIDTH, HEIGHT);
    for (int i = 0; i <= 5; i++) {
        double loss = y.low + (y.high - y.low) * i / 5, step = x.low + (x.high - x.low) * i / 5;
        svg += format("<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>\n", LEFT, WIDTH - RIGHT, py(loss), py(loss));
        svg += format("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%.2f</text>\n", LEFT - 6, py(loss) + 4, loss);
        svg += format("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.0f</text>\n", px(step), HEIGHT - BOTTOM + 18, step);
    }
    auto line = [&](const std::vector<Point>& points, const char* color, double width) {
        svg += format("<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"%.1f\" points=\"", color, width);
        for (const Point& p : points) svg += format("%.1f,%.1f ", px(p.step), py(p.loss));
        svg += "\"/>\n";
    };
    line(curves.train, "#4878a8", 1);
    line(curves.val, "#c04040", 2);
    svg += format("<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"middle\">step</text>\n", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8);
    svg += format("<text x=\"%.0f\" y=\"40\" text-anchor=\"end\" fill=\"#4878a8\">training loss</text>\n", WIDTH - RIGHT - 10);
    if (!curves.val.empty()) svg += format("<text x=\"%.0f\" y=\"58\" text-anchor=\"end\" fill=\"#c04040\">validation loss</text>\n", WIDTH - RIGHT - 10);
    return svg + "</svg>\n";
}

int main(int argc, char** argv) {
    if (argc != 3) die_with(EXIT_USAGE, "usage: plot METRICS.jsonl LOSS.svg");
    Curves curves = read_curves(argv[1]);
    Range x, y;
    for (const auto* points : {&curves.train, &curves.val}) for (const Point& p : *points) x.add(p.step), y.add(p.loss);
    draw_in_terminal(curves, x, y);
    write_file_atomically(argv[2], draw_svg(curves, x, y));
    printf("%s\n", argv[2]);
    if (!curves.end.empty()) printf("%s\n", curves.end.c_str());
}
