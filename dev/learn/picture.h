// picture.h: a picture of a chapter, as SVG. Coordinates are pixels from the upper left corner.
#pragma once
#include <cmath>
#include <cstdio>
#include <functional>
#include <string>
#include "../../llmc/base/check.h"
#include "../../llmc/io/files.h"

inline constexpr const char *INK = "#222", *FAINT = "#bbb", *BLUE = "#3b6ea8", *ORANGE = "#d9822b", *PALE = "#dce8f5", *WARM = "#fbe3c8";

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
    void circle(double x, double y, double r) { svg_ += format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" fill=\"none\" stroke=\"%s\"/>\n", x, y, r, FAINT); }
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
