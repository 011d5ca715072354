/* site: a configuration for tests, read by the very code that the daemon uses. */
#ifndef TESTS_UNIT_SITE_H
#define TESTS_UNIT_SITE_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bridge/site/conf.h"

/* `devices` is the inside of the group of that name. Ends the program when the
 * configuration is not good: then the test is wrong. */
static inline void site_read(struct conf *conf, const char *devices)
{
    char path[] = "/tmp/fluxbridge-test-XXXXXX";
    struct cfg cfg = {.out = stderr};
    int fd = mkstemp(path);

    setenv("FLUXBRIDGE_PROFILES", FLUXBRIDGE_SOURCE_PROFILES, 1);
    bool good = fd >= 0 &&
                dprintf(fd,
                        "site = \"demo\"; mqtt: { url = \"mqtt://127.0.0.1:1883\"; };"
                        "audit: { path = \"/nowhere/audit.jsonl\"; }; devices: { %s };",
                        devices) > 0 &&
                conf_read(&cfg, path, conf);
    close(fd);
    unlink(path);
    if (!good)
        abort();
}

/* One battery as in the README, with more lines of `control`. */
#define SITE_BATTERY(id, name, address, control)                                                   \
    "{ id = \"" id "\"; name = \"" name "\"; type = \"powerpack\"; poll = \"1s\";"                 \
    " modbus: { host = \"127.0.0.1\"; port = 1502; address = " address "; timeout = \"5s\"; };"    \
    " control: { ready_status = [ 1, 7 ]; min_kw = -250.0; max_kw = 250.0; " control " }; }"
#define SITE_ONE(control) "bess = ( " SITE_BATTERY("b1", "Site-BESS-01", "1", control) " );"
/* And a meter. */
#define SITE_TWO(control)                                                                          \
    SITE_ONE(control)                                                                              \
    "meters = ( { id = \"m1\"; name = \"Grid-Meter\"; type = \"acuvim2\";"                         \
    " modbus: { host = \"h\"; address = 2; }; } );"
#define SITE_DISCHARGE "positive_is = \"discharge\"; "
#define SITE_CHARGE    "positive_is = \"charge\"; "

/* Where the points of a powerpack are. */
enum { STATUS = 2000, TARGET = 2008, SOURCE = 2010, SOE = 2026, BLOCKS = 2028 };

#endif
