/* A Sparkplug command from anybody: it is none, or its metrics have finite numbers. */
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
    if (!sparkplug_decode(data, size, wishes, WISHES, &n))
        return 0;
    for (unsigned i = 0; i < n && i < WISHES; i++) {
        if (!isfinite(wishes[i].number) || strlen(wishes[i].name) > SPARKPLUG_NAME_MAX ||
            (wishes[i].has_ts && wishes[i].ts_ms < 0))
            abort();
    }
    return 0;
}
