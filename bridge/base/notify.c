#include "bridge/base/notify.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "bridge/base/clock.h"

/* Stays open: the watchdog is fed though no descriptor is to be had. Who listens may be stuck,
 * and is not waited for. */
static int notify_socket(void)
{
    static int fd = -1;
    const struct timeval patience = {.tv_sec = 1};
    if (fd < 0)
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    return fd;
}

void notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = path != NULL ? strlen(path) : 0;

    /* A name in the abstract namespace is written with an @ for its NUL. */
    if (size < 2 || size >= sizeof(address.sun_path) || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(address.sun_path, path, size);
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    const int fd = notify_socket();
    if (fd < 0)
        return;
    (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&address,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size));
}

void notify_stopping(int64_t longest_ns)
{
    char state[96];
    snprintf(state, sizeof(state), "STOPPING=1\nEXTEND_TIMEOUT_USEC=%lld",
             (long long)(longest_ns / 1000));
    notify(state);
}

int64_t notify_watchdog_ns(void)
{
    const char *interval = getenv("WATCHDOG_USEC");
    const char *pid = getenv("WATCHDOG_PID");
    long long usec = interval != NULL ? strtoll(interval, NULL, 10) : 0;
    if (usec <= 0 || usec > INT64_MAX / 1000 || (pid != NULL && strtol(pid, NULL, 10) != getpid()))
        return CLOCK_NEVER;
    return usec * 1000 / 2;
}
