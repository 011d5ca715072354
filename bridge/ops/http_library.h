/* http_library: libmicrohttpd, loaded when it is wanted and not before.
 *
 * With the TLS library it brings it would cost more resident memory than all the
 * rest of the bridge.
 */
#ifndef BRIDGE_OPS_HTTP_LIBRARY_H
#define BRIDGE_OPS_HTTP_LIBRARY_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>

/* The functions that are used. */
struct http_library {
    void *handle;
    __typeof__(&MHD_start_daemon) start_daemon;
    __typeof__(&MHD_stop_daemon) stop_daemon;
    __typeof__(&MHD_run) run;
    __typeof__(&MHD_get_timeout) get_timeout;
    __typeof__(&MHD_get_daemon_info) get_daemon_info;
    __typeof__(&MHD_get_connection_info) get_connection_info;
    __typeof__(&MHD_get_connection_values) get_connection_values;
    __typeof__(&MHD_suspend_connection) suspend_connection;
    __typeof__(&MHD_resume_connection) resume_connection;
    __typeof__(&MHD_create_response_from_buffer) create_response_from_buffer;
    __typeof__(&MHD_create_response_from_callback) create_response_from_callback;
    __typeof__(&MHD_add_response_header) add_response_header;
    __typeof__(&MHD_queue_response) queue_response;
    __typeof__(&MHD_destroy_response) destroy_response;
};

bool http_library_load(struct http_library *library);
/* Why not. */
const char *http_library_error(void);
void http_library_unload(struct http_library *library);

/* Answers with a text, which is copied. `headers`: further ones, as pairs of name
 * and value, to a NULL; or NULL. */
enum MHD_Result http_library_answer(const struct http_library *library,
                                    struct MHD_Connection *connection, unsigned status,
                                    const char *type, const char *const *headers, const char *text,
                                    size_t size);

/* The same with {"reason":…,"detail":…}, words that need no escape. */
enum MHD_Result http_library_refuse(const struct http_library *library,
                                    struct MHD_Connection *connection, unsigned status,
                                    const char *const *headers, const char *reason,
                                    const char *detail);

#endif
