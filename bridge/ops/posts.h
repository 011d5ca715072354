/* posts: POST /api/devices/<device>/set/<point>: a command over HTTP.
 *
 * It goes the way of every command: into the inbox, as it would have come over
 * MQTT, and what is published as its outcome is the answer. Who waits for that is
 * put to sleep in the library, for a bounded time, and keeps nobody else waiting.
 * Owned by the thread of http.
 */
#ifndef BRIDGE_OPS_POSTS_H
#define BRIDGE_OPS_POSTS_H

#include "bridge/commands/inbox.h"
#include "bridge/ops/http_library.h"
#include "bridge/ops/view.h"

enum { POSTS_MAX = 8 }; /* under way */

struct posts;
struct post;

/* NULL when out of memory. */
struct posts *posts_new(const struct http_library *library, const struct view *view,
                        struct inbox *inbox);
void posts_free(struct posts *posts);

bool posts_is_path(const char *path);

/* The head of a request has come. NULL: it is refused, by posts_refuse() once all
 * of its body has come. */
struct post *posts_begin(struct posts *posts, struct MHD_Connection *connection, const char *path);
enum MHD_Result posts_refuse(struct posts *posts, struct MHD_Connection *connection,
                             const char *path);

/* More of its body, or with size 0 its end; and again when it was woken. `*sleeps`
 * tells that there is no answer yet. */
enum MHD_Result posts_serve(struct posts *posts, struct post *post, const char *upload,
                            size_t *size, bool *sleeps);

/* The request has ended, however. */
void posts_end(struct post *post);

/* An outcome was published. */
void posts_tell(struct posts *posts, uint64_t ticket, const char *payload);

/* Wakes those that have waited long enough, and tells when to look again. */
int64_t posts_feed(struct posts *posts, int64_t now_ns);

/* No outcome will come any more. */
void posts_stop(struct posts *posts);

#endif
