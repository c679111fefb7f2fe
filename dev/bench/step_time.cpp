// step_time.cpp: the tables of doc/step_time.md, which dev/scaling_tables.sh --write puts into the page, or those of another plan:
//     build/bench_step_time [--plan H100 -e d12 -b 32 -t 1024 --precision bf16]
#include "step_time.h"

int main(int argc, char** argv) {
    if (argc > 1) print_step_time({argv, argv + argc});
    else print_tables_of_the_page();
}
