// pictures.h: of the chapter doc/learn/embedding.md
#pragma once
#include <string>
#include "../picture.h"

// A batch's tokens in their order and sorted by id: which rows of dout each row of dwte is the sum of.
inline void draw_embedding(const std::string& folder) {
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
