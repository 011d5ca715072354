/* A Sparkplug command from anybody: it is none, or its metrics have finite numbers. And what
 * somebody says on a host's STATE topic. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/wire/sparkplug.h"

enum { WISHES = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sparkplug_wish wishes[WISHES];
    unsigned n = 0;
    bool online = false;
    int64_t ts_ms = 0;
    (void)sparkplug_decode_state(data, size, &online, &ts_ms);
    if (!sparkplug_decode(data, size, wishes, WISHES, &n))
        return 0;
    for (unsigned i = 0; i < n && i < WISHES; i++) {
        if (!isfinite(wishes[i].number) || strlen(wishes[i].name) > SPARKPLUG_NAME_MAX ||
            (wishes[i].has_ts && wishes[i].ts_ms < 0))
            abort();
    }
    return 0;
}
