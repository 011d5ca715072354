#include "bridge/ops/posts.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "bridge/base/clock.h"
#include "bridge/ops/request.h"
#include "bridge/wire/topic.h"

enum { BODY_MAX = 16 << 20 };         /* is read to its end; beyond, the connection ends */
#define WAIT_NS (30 * CLOCK_NS_PER_S) /* for the outcome of a slow device */

static const char prefix[] = "/api/devices/";
static const char infix[] = "/set/";

struct post {
    struct MHD_Connection *connection; /* NULL: free */
    uint64_t ticket;
    char leaf[TOPIC_MAX + 1]; /* set/<point> */
    char device[DEVICE_NAME_MAX + 1];
    bool sleeps, handed_over;
    int64_t until_ns;
    size_t size; /* of the body so far; of what is too large only the beginning is kept */
    char body[COMMAND_PAYLOAD_MAX];
    char *outcome; /* NULL: none came */
};

struct posts {
    const struct http_library *library;
    struct view view;
    struct inbox *inbox;
    uint64_t tickets;
    bool stopping;
    struct inbox_message message;
    struct post all[POSTS_MAX];
};

struct posts *posts_new(const struct http_library *library, const struct view *view,
                        struct inbox *inbox)
{
    struct posts *posts = calloc(1, sizeof(*posts));
    if (posts == NULL)
        return NULL;
    posts->library = library;
    posts->view = *view;
    posts->inbox = inbox;
    return posts;
}

void posts_free(struct posts *posts)
{
    for (unsigned i = 0; posts != NULL && i < POSTS_MAX; i++)
        free(posts->all[i].outcome);
    free(posts);
}

bool posts_is_path(const char *path)
{
    return strncmp(path, prefix, sizeof(prefix) - 1) == 0 &&
           strstr(path + sizeof(prefix) - 1, infix) != NULL;
}

/* ---- may it? ---- */

static enum MHD_Result take_header(void *context, enum MHD_ValueKind kind, const char *key,
                                   const char *value)
{
    struct request *request = context;
    const struct {
        const char *key;
        const char **value;
    } known[] = {
        {MHD_HTTP_HEADER_HOST, &request->host},
        {MHD_HTTP_HEADER_ORIGIN, &request->origin},
        {MHD_HTTP_HEADER_AUTHORIZATION, &request->authorization},
        {MHD_HTTP_HEADER_CONTENT_TYPE, &request->content_type},
    };
    (void)kind;
    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
        if (strcasecmp(key, known[i].key) != 0)
            continue;
        request->repeated = request->repeated || *known[i].value != NULL;
        *known[i].value = value != NULL ? value : "";
    }
    return MHD_YES;
}

static struct request_fault judge(struct posts *posts, struct MHD_Connection *connection)
{
    const struct conf *conf = posts->view.conf;
    const bool wanted = conf->http_token_file[0] != '\0';
    char token[CONF_TEXT_MAX + 1] = "";
    struct request request = {0};
    (void)posts->library->get_connection_values(connection, MHD_HEADER_KIND, take_header, &request);
    if (wanted && conf_load_password(conf->http_token_file, token) != NULL)
        token[0] = '\0'; /* nobody has it then */
    const struct request_fault fault =
        request_judge(&request, conf->http_address, wanted ? token : NULL);
    explicit_bzero(token, sizeof(token));
    return fault;
}

/* The device in the path, and the topic's end; NULL when there is none. */
static const struct device *find_device(const struct posts *posts, const char *path,
                                        const char **leaf)
{
    const struct device_list *list = &posts->view.conf->devices;
    const char *name = path + sizeof(prefix) - 1;
    const char *end = strstr(name, infix);
    for (unsigned i = 0; i < list->n_devices; i++) {
        const char *known = list->devices[i].name;
        if (!device_is_there(&list->devices[i]) || strlen(known) != (size_t)(end - name) ||
            strncmp(known, name, strlen(known)) != 0)
            continue;
        *leaf = end + 1;
        return &list->devices[i];
    }
    return NULL;
}

struct post *posts_begin(struct posts *posts, struct MHD_Connection *connection, const char *path)
{
    const char *leaf;
    const struct device *device = find_device(posts, path, &leaf);
    if (device == NULL || strlen(leaf) > TOPIC_MAX || judge(posts, connection).status != 0)
        return NULL;
    for (unsigned i = 0; i < POSTS_MAX; i++) {
        struct post *post = &posts->all[i];
        if (post->connection != NULL)
            continue;
        *post = (struct post){.connection = connection};
        memcpy(post->device, device->name, sizeof(post->device));
        memcpy(post->leaf, leaf, strlen(leaf) + 1);
        return post;
    }
    return NULL;
}

enum MHD_Result posts_refuse(struct posts *posts, struct MHD_Connection *connection,
                             const char *path)
{
    static const char *const bearer[] = {MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer", NULL};
    const char *leaf;
    const struct request_fault fault = judge(posts, connection);
    if (fault.status != 0)
        return http_library_refuse(posts->library, connection, fault.status,
                                   fault.status == MHD_HTTP_UNAUTHORIZED ? bearer : NULL,
                                   fault.reason, fault.detail);
    if (find_device(posts, path, &leaf) == NULL)
        return http_library_refuse(posts->library, connection, MHD_HTTP_NOT_FOUND, NULL,
                                   "unknown_device", "no device of this site has that name");
    return http_library_refuse(posts->library, connection, MHD_HTTP_TOO_MANY_REQUESTS, NULL,
                               "rate_limited", "too many commands are under way");
}

/* ---- there and back ---- */

static bool hand_over(struct posts *posts, struct post *post)
{
    struct inbox_message *message = &posts->message;
    memset(message, 0, offsetof(struct inbox_message, payload));
    if (!topic_make(message->topic, posts->view.conf, post->device, post->leaf))
        return false;
    message->mono_ns = clock_mono_ns();
    message->utc_ms = clock_utc_ms();
    message->address.ticket = post->ticket = ++posts->tickets;
    message->payload_size = post->size;
    memcpy(message->payload, post->body, post->size);
    message->payload[post->size] = '\0';
    return inbox_put_message(posts->inbox, message);
}

static unsigned status_of(const char *payload)
{
    static const struct {
        enum reason reason;
        unsigned status;
    } known[] = {
        {REASON_MALFORMED, MHD_HTTP_BAD_REQUEST},
        {REASON_UNKNOWN_DEVICE, MHD_HTTP_NOT_FOUND},
        {REASON_UNKNOWN_POINT, MHD_HTTP_NOT_FOUND},
        {REASON_RATE_LIMITED, MHD_HTTP_TOO_MANY_REQUESTS},
    };
    unsigned status = MHD_HTTP_CONFLICT;
    json_t *root = json_loads(payload, 0, NULL);
    const char *outcome = json_string_value(json_object_get(root, "outcome"));
    const char *reason = json_string_value(json_object_get(root, "reason"));
    if (outcome != NULL && strcmp(outcome, outcome_word(OUTCOME_CONFIRMED)) == 0)
        status = MHD_HTTP_OK;
    for (size_t i = 0; reason != NULL && i < sizeof(known) / sizeof(*known); i++)
        if (strcmp(reason, reason_word(known[i].reason)) == 0)
            status = known[i].status;
    json_decref(root);
    return status;
}

static enum MHD_Result answer(struct posts *posts, struct post *post)
{
    const struct http_library *library = posts->library;
    if (post->outcome != NULL)
        return http_library_answer(library, post->connection, status_of(post->outcome),
                                   "application/json", NULL, post->outcome, strlen(post->outcome));
    if (posts->stopping)
        return http_library_refuse(library, post->connection, MHD_HTTP_SERVICE_UNAVAILABLE, NULL,
                                   "shutting_down", "the outcome comes on the result topic");
    return http_library_refuse(library, post->connection, MHD_HTTP_GATEWAY_TIMEOUT, NULL,
                               "no_outcome_yet", "it comes on the result topic");
}

enum MHD_Result posts_serve(struct posts *posts, struct post *post, const char *upload,
                            size_t *size, bool *sleeps)
{
    const struct http_library *library = posts->library;
    *sleeps = false;
    if (*size > 0) {
        const size_t room = sizeof(post->body) -
                            (post->size < sizeof(post->body) ? post->size : sizeof(post->body));
        memcpy(post->body + sizeof(post->body) - room, upload, *size < room ? *size : room);
        post->size += *size;
        *size = 0;
        return post->size <= BODY_MAX ? MHD_YES : MHD_NO;
    }
    if (post->size > sizeof(post->body))
        return http_library_refuse(library, post->connection, MHD_HTTP_CONTENT_TOO_LARGE, NULL,
                                   "too_large", "a command has at most 4 KiB");
    if (post->handed_over)
        return answer(posts, post);
    if (posts->stopping || !hand_over(posts, post))
        return http_library_refuse(library, post->connection, MHD_HTTP_TOO_MANY_REQUESTS, NULL,
                                   "rate_limited", "more commands wait than can be kept");
    post->handed_over = post->sleeps = *sleeps = true;
    post->until_ns = clock_mono_ns() + WAIT_NS;
    library->suspend_connection(post->connection);
    return MHD_YES;
}

void posts_end(struct post *post)
{
    free(post->outcome);
    post->outcome = NULL;
    post->connection = NULL;
}

static void wake(struct posts *posts, struct post *post)
{
    if (post->connection == NULL || !post->sleeps)
        return;
    post->sleeps = false;
    posts->library->resume_connection(post->connection);
}

void posts_tell(struct posts *posts, uint64_t ticket, const char *payload)
{
    for (unsigned i = 0; ticket != 0 && i < POSTS_MAX; i++) {
        struct post *post = &posts->all[i];
        if (!post->sleeps || post->ticket != ticket)
            continue;
        post->outcome = strdup(payload);
        wake(posts, post);
    }
}

int64_t posts_feed(struct posts *posts, int64_t now_ns)
{
    int64_t due_ns = CLOCK_NEVER;
    for (unsigned i = 0; i < POSTS_MAX; i++) {
        struct post *post = &posts->all[i];
        if (post->connection == NULL || !post->sleeps)
            continue;
        if (post->until_ns <= now_ns)
            wake(posts, post);
        else if (post->until_ns < due_ns)
            due_ns = post->until_ns;
    }
    return due_ns;
}

void posts_stop(struct posts *posts)
{
    posts->stopping = true;
    for (unsigned i = 0; i < POSTS_MAX; i++)
        wake(posts, &posts->all[i]);
}
