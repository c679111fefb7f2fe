// terminal.h: the loss curve in a terminal. One character cell is 2 x 4 dots of Unicode's Braille block.
#pragma once
#include <unistd.h>
#include <string>
#include <vector>
#include "chart.h"

// Validations are o, the floor a dashed line. Where colours can be shown, each run has its own; a cell has that of the last run in it.
inline std::string draw_in_terminal(const Chart& chart, Axis x, bool colored) {
    constexpr int COLUMNS = 72, ROWS = 14;
    constexpr unsigned DOTS[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    static constexpr int ANSI[] = {34, 31, 32, 35, 33, 36, 95, 90};
    std::vector<double> values;
    for (const Series& s : chart.series) {
        for (const Column& c : columns_of(s.line, x, 2 * COLUMNS)) values.push_back(c.mean);
        for (const Point& p : s.dots) if (x.shows(p.x)) values.push_back(p.y);
    }
    Axis y = axis_of(values, LINEAR);
    for (const Level& l : chart.levels) y.low = std::fmin(y.low, l.y), y.high = std::fmax(y.high, l.y);

    struct Cell { unsigned dots = 0; int color = 0; char letter = 0; };
    std::vector<Cell> cells((size_t)COLUMNS * ROWS);
    const auto cell = [&](int column, int row) -> Cell& { return cells[(size_t)row * COLUMNS + (size_t)column]; };
    const auto row_of = [&](double v) { return (int)((1 - y.part(v)) * (4 * ROWS - 1)); };
    for (const Level& l : chart.levels) for (int c = 0; c < COLUMNS; c++) cell(c, row_of(l.y) / 4).letter = '-';
    for (const Series& s : chart.series)
        for (const Column& c : columns_of(s.line, x, 2 * COLUMNS, y)) {
            if (!c.n) continue;
            const int column = (int)(x.part(c.x) * (2 * COLUMNS - 1)), row = row_of(c.mean);
            Cell& at = cell(column / 2, row / 4);
            at.dots |= DOTS[row % 4][column % 2], at.color = s.color, at.letter = 0;
        }
    for (const Series& s : chart.series)
        for (const Point& p : s.dots) if (x.shows(p.x) && y.shows(p.y)) {
            Cell& at = cell((int)(x.part(p.x) * (2 * COLUMNS - 1)) / 2, row_of(p.y) / 4);
            at.letter = 'o', at.color = s.dots_color;
        }

    std::string out = format("%8s   ", chart.unit.c_str());
    const auto paint = [&](int color, const std::string& text) { return colored ? format("\033[%dm%s\033[0m", ANSI[color], text.c_str()) : text; };
    if (chart.series.size() == 1) out += paint(chart.series[0].color, "training") + (chart.series[0].dots.empty() ? "" : ", o " + paint(chart.series[0].dots_color, "validation"));
    else for (const Series& s : chart.series) out += (s.color ? ", " : "") + paint(s.color, s.name);
    for (const Level& l : chart.levels) out += ", - " + l.text;
    out += "\n";
    for (int row = 0; row < ROWS; row++) {
        out += format("%8.3f |", y.high - (y.high - y.low) * row / (ROWS - 1));
        std::string line;
        for (int column = 0; column < COLUMNS; column++) {
            const Cell& c = cell(column, row);
            const unsigned u = 0x2800 + c.dots;
            line += c.letter ? c.letter == '-' ? "-" : paint(c.color, "o") : !c.dots ? " " : paint(c.color, format("%c%c%c", 0xE0 | (int)(u >> 12), 0x80 | (int)(u >> 6 & 63), 0x80 | (int)(u & 63)));
        }
        out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
    }
    out += format("%8s +%s\n", "", std::string(COLUMNS, '-').c_str());
    std::string labels((size_t)COLUMNS + 8, ' ');
    for (const Tick& t : ticks_of_steps(x))
        if (t.major || x.scale == LINEAR) {
            const size_t at = (size_t)(x.part(t.value) * (COLUMNS - 1));
            if (labels.substr(at ? at - 1 : 0, t.text.size() + 2).find_first_not_of(' ') == labels.npos) labels.replace(at, t.text.size(), t.text);
        }
    return out + format("%10s%s\n%10s%*s\n", "", labels.substr(0, labels.find_last_not_of(' ') + 1).c_str(), "", COLUMNS, x.scale == LINEAR ? "step" : "step, logarithmic");
}
