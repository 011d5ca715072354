#include "bridge/mqtt/nap.h"

#include <unistd.h>

#include "bridge/base/clock.h"

/* The library waits a second for its sockets. */
#define WAITED_NS (CLOCK_NS_PER_S / 2)

/* Who calls usleep() has no place to hand one over. */
static _Thread_local struct {
    bool watched;
    struct nap nap;
} mine;

bool nap_is_due(struct nap *nap, int64_t now_ns)
{
    const bool waited = nap->wanted_ns == 0 || now_ns - nap->wanted_ns >= WAITED_NS;
    nap->wanted_ns = now_ns;
    return !waited;
}

void nap_watch_me(void)
{
    mine.watched = true;
}

int usleep(useconds_t pause_us)
{
    if (!mine.watched || nap_is_due(&mine.nap, clock_mono_ns()))
        clock_pause((int64_t)pause_us * 1000);
    return 0;
}
