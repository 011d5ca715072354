#include "bridge/battery/trust.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bridge/base/log.h"
#include "bridge/battery/remembered.h"
#include "bridge/battery/schedule.h"

enum { TEXT_MAX = REMEMBERED_BOOT_MAX + 32 };

static const char key[] = "unsynchronised";

/* Since when it was not synchronised in a run before of this boot; else now. */
static int64_t since(struct state *state, const char *boot, int64_t now_ns)
{
    char text[TEXT_MAX], of[REMEMBERED_BOOT_MAX + 1];
    int64_t kept_ns;
    if (state == NULL || boot[0] == '\0' || !state_get(state, key, text, sizeof(text)) ||
        sscanf(text, "%36s %" SCNd64, of, &kept_ns) != 2 || strcmp(of, boot) != 0 || kept_ns < 1 ||
        kept_ns > now_ns)
        return now_ns;
    return kept_ns;
}

static void keep(struct state *state, const char *boot, int64_t since_ns)
{
    char text[TEXT_MAX];
    (void)snprintf(text, sizeof(text), "%s %" PRId64, boot, since_ns);
    if (state != NULL)
        (void)state_put(state, key, since_ns != 0 ? text : NULL);
}

void trust_look(struct trust *trust, struct health *health, struct state *state, bool synchronised,
                int64_t now_ns)
{
    int64_t since_ns = atomic_load(&health->unsynchronised_ns);
    const bool recalls = !trust->is_recalled && (state == NULL || state_is_loaded(state));
    trust->is_recalled = trust->is_recalled || recalls;
    if (recalls || synchronised != (since_ns == 0) || (synchronised && trust->is_distrusted)) {
        char boot[REMEMBERED_BOOT_MAX + 1];
        remembered_boot(boot);
        const int64_t kept_ns = since(state, boot, now_ns);
        if (synchronised)
            since_ns = 0;
        else if (since_ns == 0 || kept_ns < since_ns)
            since_ns = kept_ns;
        if (trust->is_recalled)
            keep(state, boot, since_ns);
        atomic_store(&health->unsynchronised_ns, since_ns);
    }
    const bool distrusts = since_ns != 0 && now_ns - since_ns >= SCHEDULE_TRUST_NS;
    if (distrusts && !trust->is_distrusted)
        log_warning("the kernel has not called the clock synchronised for an hour: schedules are "
                    "at their default until it does");
    else if (!distrusts && trust->is_distrusted)
        log_info("the clock is synchronised: schedules go on");
    trust->is_distrusted = distrusts;
}
