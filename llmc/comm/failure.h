// failure.h: the end of a run whose ranks cannot go on together.
#pragma once
#include <cstdarg>
#include "flight_recorder.h"

// One line that names the culprit, the record of the last operations, and the end of this process at once.
[[noreturn, gnu::format(printf, 1, 2)]] inline void comm_failed(const char* pattern, ...) {
    char line[2048];
    va_list args;
    va_start(args, pattern);
    vsnprintf(line, sizeof line, pattern, args);
    va_end(args);
    const Operation o = flight_recorder().now();
    const std::string record = flight_recorder().save();
    die_with(EXIT_COMM, "%s (step %d, operation %llu, %s, %zu bytes)%s", line, o.step, (unsigned long long)o.sequence, o.what, o.bytes, record.c_str());
}
