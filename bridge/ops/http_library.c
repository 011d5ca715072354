#include "bridge/ops/http_library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

bool http_library_load(struct http_library *library)
{
    const struct {
        const char *name;
        void **function;
    } wanted[] = {
        {"MHD_start_daemon", (void **)&library->start_daemon},
        {"MHD_stop_daemon", (void **)&library->stop_daemon},
        {"MHD_run", (void **)&library->run},
        {"MHD_get_timeout", (void **)&library->get_timeout},
        {"MHD_get_daemon_info", (void **)&library->get_daemon_info},
        {"MHD_get_connection_info", (void **)&library->get_connection_info},
        {"MHD_get_connection_values", (void **)&library->get_connection_values},
        {"MHD_suspend_connection", (void **)&library->suspend_connection},
        {"MHD_resume_connection", (void **)&library->resume_connection},
        {"MHD_create_response_from_buffer", (void **)&library->create_response_from_buffer},
        {"MHD_create_response_from_callback", (void **)&library->create_response_from_callback},
        {"MHD_add_response_header", (void **)&library->add_response_header},
        {"MHD_queue_response", (void **)&library->queue_response},
        {"MHD_destroy_response", (void **)&library->destroy_response},
    };
    library->handle = dlopen("libmicrohttpd.so.12", RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; library->handle != NULL && i < sizeof(wanted) / sizeof(*wanted); i++) {
        *wanted[i].function = dlsym(library->handle, wanted[i].name);
        if (*wanted[i].function == NULL)
            return false;
    }
    return library->handle != NULL;
}

const char *http_library_error(void)
{
    const char *error = dlerror();
    return error != NULL ? error : "";
}

void http_library_unload(struct http_library *library)
{
    if (library->handle != NULL)
        (void)dlclose(library->handle);
    library->handle = NULL;
}

enum MHD_Result http_library_answer(const struct http_library *library,
                                    struct MHD_Connection *connection, unsigned status,
                                    const char *type, const char *const *headers, const char *text,
                                    size_t size)
{
    struct MHD_Response *response =
        library->create_response_from_buffer(size, (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);
    if (response == NULL)
        return MHD_NO;
    library->add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    library->add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    library->add_response_header(response, "X-Content-Type-Options", "nosniff");
    for (size_t i = 0; headers != NULL && headers[i] != NULL; i += 2)
        library->add_response_header(response, headers[i], headers[i + 1]);
    enum MHD_Result result = library->queue_response(connection, status, response);
    library->destroy_response(response);
    return result;
}

enum MHD_Result http_library_refuse(const struct http_library *library,
                                    struct MHD_Connection *connection, unsigned status,
                                    const char *const *headers, const char *reason,
                                    const char *detail)
{
    char text[256];
    (void)snprintf(text, sizeof(text), "{\"reason\":\"%s\",\"detail\":\"%s\"}\n", reason, detail);
    return http_library_answer(library, connection, status, "application/json", headers, text,
                               strlen(text));
}
