/* two_devices: the site of a battery and a meter, read for a whole group of tests. */
#ifndef TESTS_UNIT_TWO_DEVICES_H
#define TESTS_UNIT_TWO_DEVICES_H

#include "site.h"

static struct conf conf;

static inline int read_site(void **state)
{
    (void)state;
    site_read(&conf, SITE_TWO(SITE_DISCHARGE));
    return 0;
}

static inline int free_site(void **state)
{
    (void)state;
    conf_free(&conf);
    return 0;
}

#endif
