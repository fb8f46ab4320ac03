/* Holds a pod's namespaces open: sleeps until told to go, and reaps what is left to it where it is process 1. */
#include <signal.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int signal) { (void)signal; _exit(0); }

static void reap(int signal) {
    (void)signal;
    while (waitpid(-1, 0, WNOHANG) > 0) {
    }
}

int main(void) {
    struct sigaction go = {.sa_handler = leave}, child = {.sa_handler = reap, .sa_flags = SA_NOCLDSTOP};
    sigaction(SIGINT, &go, 0);
    sigaction(SIGTERM, &go, 0);
    sigaction(SIGCHLD, &child, 0);
    for (;;) pause();
}
