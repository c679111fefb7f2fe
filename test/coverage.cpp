// coverage.cpp: a process that ends by die, or a child that ends by _exit, has run lines too: gcov writes them down before (`make coverage`).
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cstdlib>

extern "C" void __gcov_dump();
static const int silent = setenv("GCOV_ERROR_FILE", "/dev/null", 1);  // a child of another user can write none: no line of its own
extern "C" [[noreturn]] void _exit(int code) {
    const rlimit any = {RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &any);  // all counts so far and these are written as one file: cut short, those of all would be lost
    close(STDIN_FILENO);  // a descriptor for it, where there is none left
    __gcov_dump();
    for (;;) syscall(SYS_exit_group, code);
}
extern "C" [[noreturn]] void _Exit(int code) { _exit(code); }
