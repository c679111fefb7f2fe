// The page that counts each kernel of a step is what its program prints today.
#include <algorithm>
#include "../../dev/bench/step_time.h"
#include "../test.h"

TEST(tables_of_step_time_are_those_of_the_count) {
#ifdef __SANITIZE_ADDRESS__
    SKIP("memory is planned without sharing under AddressSanitizer");
#endif
    const std::string page = read_file("doc/step_time.md"), begin = "<!-- tables -->\n", end = "\n<!-- end of tables -->\n";
    const size_t at = page.find(begin) + begin.size();
    const Outcome o = run_child(print_tables_of_the_page);
    EXPECT_EQ(o.code, 0);
    EXPECT(std::count(o.output.begin(), o.output.end(), '\n') > 80);
    if (page.substr(at, page.find(end) - at) != o.output) FAIL("doc/step_time.md: not what bench_step_time prints: dev/scaling_tables.sh --write");
}
