#include "bridge/base/guard.h"

#include <execinfo.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/* A member of what is not there is not far from nowhere. */
enum { NEAR_NULL = 64 * 1024, FRAMES = 32 };

/* Nothing here allocates. */
static void on_fault(int signal, siginfo_t *info, void *context)
{
    static const char words[] = "fluxbridge: out of memory, or a defect: a null pointer was used\n";
    (void)signal;
    (void)context;
    if ((uintptr_t)info->si_addr >= NEAR_NULL)
        return; /* the handler is gone: the fault repeats itself and ends the program */
    void *frames[FRAMES];
    if (write(STDERR_FILENO, words, sizeof(words) - 1) > 0)
        backtrace_symbols_fd(frames, backtrace(frames, FRAMES), STDERR_FILENO);
    _exit(EXIT_FAILURE);
}

static bool ends; /* the program itself does */

/* libconfig ends who calls it when it has no memory, with the code of a wrong configuration:
 * whoever minds the program would leave it ended. */
static void on_exit_by_others(void)
{
    static const char words[] = "fluxbridge: ended by a library: out of memory, or a defect\n";
    if (ends)
        return;
    (void)!write(STDERR_FILENO, words, sizeof(words) - 1);
    _exit(EXIT_FAILURE);
}

void guard_end(void)
{
    ends = true;
}

/* Started without them the first sockets and files would be 0, 1 and 2: what is logged would
 * go to whatever is 2, such as a battery, and the MQTT library takes a socket 0 for none. What
 * reads and writes here finds them closed as before. */
static void fill_standard(void)
{
    int file = STDIN_FILENO;
    while (file >= STDIN_FILENO && file <= STDERR_FILENO)
        file = open("/", O_PATH);
    if (file > STDERR_FILENO)
        close(file);
}

void guard_install(void)
{
    struct sigaction action = {.sa_sigaction = on_fault,
                               .sa_flags = (int)SA_RESETHAND | SA_SIGINFO};
    struct sigaction before;
    void *frame;
    fill_standard();
    (void)backtrace(&frame, 1);      /* the first one allocates */
    (void)atexit(on_exit_by_others); /* there is room for some without */
    /* A sanitizer has a better handler. */
    if (sigaction(SIGSEGV, NULL, &before) == 0 && before.sa_handler == SIG_DFL)
        sigaction(SIGSEGV, &action, NULL);
}

void guard_memory(const void *memory)
{
    static const char words[] = "fluxbridge: out of memory\n";
    if (memory != NULL)
        return;
    (void)!write(STDERR_FILENO, words, sizeof(words) - 1);
    _exit(EXIT_FAILURE);
}

void *guard_allocate(size_t size)
{
    void *memory = malloc(size > 0 ? size : 1);
    guard_memory(memory);
    return memory;
}

void guard_secrets(void)
{
    const struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0); /* for a core_pattern that is a pipe, and for ptrace(2) */
}
