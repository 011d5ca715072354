/* node_post: the messages of a Sparkplug node: their topics, their order, its Will.
 *
 * `seq` goes from 0 at NBIRTH over all messages but NDEATH, and `bdSeq` is one more at
 * each CONNECT; it is that of the Will, and so of the births until the session ends
 * (Sparkplug 3.0.0, sections 6.4.5 and 6.4.20). All go at QoS 0 and not retained.
 *
 * Owned by the edge node (bridge/publish/edge.h), whose session's it is.
 */
#ifndef BRIDGE_PUBLISH_NODE_POST_H
#define BRIDGE_PUBLISH_NODE_POST_H

#include <stdatomic.h>

#include "bridge/mqtt/mqtt.h"
#include "bridge/store/state.h"
#include "bridge/wire/sparkplug.h"
#include "bridge/wire/topic.h"

#define NODE_NAMESPACE "spBv1.0"
#define NODE_REBIRTH   "Node Control/Rebirth"

/* A message that the session has not taken yet. */
struct node_letter {
    char topic[TOPIC_MAX + 1];
    void *bytes; /* NULL = there is none */
    size_t size;
    uint64_t ticket;
};

struct node_post {
    const struct conf *conf;
    struct state *state; /* keeps bdSeq; NULL = as long as the process */
    struct mqtt *mqtt;
    unsigned bdseq, seq;
    uint64_t mark;       /* the state file's, of the bdSeq of the Will */
    int64_t patience_ns; /* until then that is waited for, of the machine awake */
    atomic_bool crowded; /* something found no room: it is waited for */
    struct node_letter letter;
};

/* The node's name: the site's unless it has its own. */
const char *node_post_name(const struct conf *conf);

/* spBv1.0/<group>/<type>/<node>[/<device>]; false when that is too long. */
bool node_post_topic(const struct conf *conf, const char *type, const char *device,
                     char topic[TOPIC_MAX + 1]);

/* Goes on with the bdSeq of the run before; the first ever is 0. While the state is not loaded
 * `seed` has a say: one that was used last is not to be used again. Makes the Will. */
void node_post_begin(struct node_post *post, const struct conf *conf, struct state *state,
                     struct mqtt *mqtt, uint32_t seed);

/* The session is over: what was not taken is dropped. With `anew` the broker may have
 * seen the Will, and the next connection has another. */
void node_post_end(struct node_post *post, bool anew);

/* Whether the bdSeq of the Will is on disk, so that a bridge that is killed does not
 * use it again; a disk that does not take it within a second is not waited for. `awake_ns` is the
 * time, of the machine awake. */
bool node_post_may_connect(const struct node_post *post, int64_t awake_ns);

/* Whether so many messages can be sent now; else `crowded` is set. */
bool node_post_has_room(struct node_post *post, unsigned n);

/* False: no room now. Else it goes, at the latest before all that follows; what cannot
 * be made for want of memory counts as gone. `ticket` as for mqtt_publish(). */
bool node_post_send(struct node_post *post, const char *type, const char *device,
                    const struct sparkplug_metric *metrics, unsigned n, uint64_t ticket);
bool node_post_birth(struct node_post *post);
bool node_post_death(struct node_post *post);

#endif
