/* page: the site at a glance, for a person: what GET / and the API say.
 *
 * The page itself is one text, made at build time of bridge/ops/page/; all that it
 * shows it asks for. Payloads are those of MQTT, byte for byte.
 */
#ifndef BRIDGE_OPS_PAGE_H
#define BRIDGE_OPS_PAGE_H

#include "bridge/ops/view.h"

/* GET /. It asks no other host and nothing but its own script runs in it:
 * page_policy() is its Content-Security-Policy. */
void page_put(FILE *out, const struct view *view);
const char *page_policy(void);

/* GET /api/state: everything as it is now. */
void page_put_state(FILE *out, const struct view *view);

/* GET /api/info: what does not change while the bridge runs: each device's `info`. */
void page_put_info(FILE *out, const struct view *view);

/* The payload of bridge/health. Malloc'ed; NULL when out of memory. */
char *page_health(const struct view *view);

/* The last sample of a device as it is on its topic `state`, in a buffer of
 * page_sample_room() bytes. 0 when there is none yet. */
size_t page_sample(const struct view *view, unsigned device, char *text, size_t size);
size_t page_sample_room(const struct conf *conf);

#endif
