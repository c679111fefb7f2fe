// coverage.cpp: a process that ends by die has run lines too: gcov writes them down before (`make coverage`).
#include "../llmc/base/check.h"

extern "C" void __gcov_dump();
static const bool dumps = (g_before_death = [] { __gcov_dump(); }, true);
