#include <signal.h>
#include "test.h"

int main(int argc, char** argv) {
    for (int signal : {SIGHUP, SIGINT, SIGQUIT}) ::signal(signal, SIG_DFL);  // nohup, and shells that start something in the background, have them ignored
    return run_tests(argc, argv);
}
