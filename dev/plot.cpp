// plot.cpp: draws runs from their metrics.jsonl, also while they train.
//     make plot && ./plot out             # out/plot.html and, in the terminal, the loss
//     ./plot out out2 -o both.html        # several runs over one another
//     ./plot out --follow                 # as long as it trains
// In reading order: plot/metrics.h reads, axis.h and columns.h compute, chart.h draws, run_charts.h says what, page.h and style.h make the page.
#include "plot/plot.h"

int main(int argc, char** argv) {
    die_when_memory_ends();
    return plot(argc, argv);
}
