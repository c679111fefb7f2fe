// coverage.cpp: a process that ends by die, or a child that ends by _exit, has run lines too: gcov writes them down before (`make coverage`).
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

extern "C" void __gcov_dump();
static const uid_t user = geteuid();
extern "C" [[noreturn]] void _exit(int code) {
    const rlimit any = {RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &any);  // all counts so far and these are written as one file: cut short, those of all would be lost
    close(STDIN_FILENO);  // a descriptor for it, where there is none left
    if (geteuid() == user) __gcov_dump();  // a child of another user can write none, and would say so
    for (;;) syscall(SYS_exit_group, code);
}
extern "C" [[noreturn]] void _Exit(int code) { _exit(code); }
