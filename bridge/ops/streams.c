#include "bridge/ops/streams.h"

#include <stdlib.h>

#include "bridge/base/clock.h"

struct stream {
    struct streams *streams;
    struct MHD_Connection *connection; /* NULL: free */
    uint64_t place;
    bool sleeps;
};

struct streams {
    const struct http_library *library;
    struct events *events;
    struct stream all[STREAMS_MAX];
    unsigned n;
    int64_t due_ns;
    bool stopping;
};

struct streams *streams_new(const struct http_library *library, const struct view *view)
{
    struct streams *streams = calloc(1, sizeof(*streams));
    if (streams == NULL)
        return NULL;
    streams->library = library;
    streams->due_ns = CLOCK_NEVER;
    streams->events = events_new(view);
    if (streams->events != NULL)
        return streams;
    free(streams);
    return NULL;
}

void streams_free(struct streams *streams)
{
    if (streams == NULL)
        return;
    events_free(streams->events);
    free(streams);
}

/* The library asks for more to send. */
static ssize_t read_more(void *context, uint64_t position, char *text, size_t size)
{
    struct stream *stream = context;
    (void)position;
    if (stream->streams->stopping)
        return MHD_CONTENT_READER_END_OF_STREAM;
    const ssize_t n = events_read(stream->streams->events, &stream->place, text, size);
    if (n < 0)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (n == 0) {
        stream->sleeps = true;
        stream->streams->library->suspend_connection(stream->connection);
    }
    return n;
}

static void close_stream(void *context)
{
    struct stream *stream = context;
    struct streams *streams = stream->streams;
    stream->connection = NULL;
    if (--streams->n == 0)
        streams->due_ns = CLOCK_NEVER;
}

enum MHD_Result streams_open(struct streams *streams, struct MHD_Connection *connection,
                             int64_t now_ns, bool *opened)
{
    static const char *const again[] = {MHD_HTTP_HEADER_RETRY_AFTER, "10", NULL};
    const struct http_library *library = streams->library;
    struct stream *stream = streams->all;
    *opened = false;
    if (streams->n == STREAMS_MAX || streams->stopping)
        return http_library_refuse(library, connection, MHD_HTTP_SERVICE_UNAVAILABLE, again,
                                   "too_many_streams", "as many listen as may");
    while (stream->connection != NULL)
        stream++;
    struct MHD_Response *response = library->create_response_from_callback(
        MHD_SIZE_UNKNOWN, 16 << 10, read_more, stream, close_stream);
    if (response == NULL)
        return MHD_NO;
    *stream = (struct stream){
        .streams = streams,
        .connection = connection,
        .place = events_begin(streams->events, now_ns, streams->n == 0),
    };
    if (streams->n++ == 0)
        streams->due_ns = now_ns + EVENTS_LOOK_NS;
    library->add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "text/event-stream");
    library->add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    library->add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    enum MHD_Result result = library->queue_response(connection, MHD_HTTP_OK, response);
    *opened = result == MHD_YES;
    library->destroy_response(response); /* closes the stream if it was not queued */
    return result;
}

/* Those that sleep have something to read now. */
static void wake(struct streams *streams)
{
    for (unsigned i = 0; i < STREAMS_MAX; i++) {
        struct stream *stream = &streams->all[i];
        if (stream->connection == NULL || !stream->sleeps)
            continue;
        stream->sleeps = false;
        streams->library->resume_connection(stream->connection);
    }
}

void streams_tell(struct streams *streams, const char *payload)
{
    if (streams->n == 0)
        return;
    events_put_outcome(streams->events, payload);
    wake(streams);
}

void streams_feed(struct streams *streams, int64_t now_ns)
{
    if (now_ns < streams->due_ns)
        return;
    streams->due_ns = now_ns + EVENTS_LOOK_NS;
    if (events_look(streams->events, now_ns))
        wake(streams);
}

int64_t streams_due_ns(const struct streams *streams)
{
    return streams->due_ns;
}

void streams_stop(struct streams *streams)
{
    streams->stopping = true;
    wake(streams);
}
