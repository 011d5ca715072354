#include "bridge/ops/request.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "bridge/site/conf.h"

static bool is_same_address(const char *a, const char *b)
{
    const int families[] = {AF_INET, AF_INET6};
    unsigned char of_a[sizeof(struct in6_addr)] = {0}, of_b[sizeof(struct in6_addr)] = {0};
    for (unsigned i = 0; i < 2; i++)
        if (inet_pton(families[i], a, of_a) == 1 && inet_pton(families[i], b, of_b) == 1)
            return memcmp(of_a, of_b, sizeof(of_a)) == 0;
    return false;
}

/* HOST, HOST:PORT or [IPV6]:PORT. Any port: a tunnel may lead here. */
static bool is_own_host(const char *host, const char *listen)
{
    char name[64];
    const bool brackets = *host == '[';
    const char *from = host + brackets;
    const size_t size = strcspn(from, brackets ? "]" : ":");
    const char *rest = from + size;
    if (size >= sizeof(name) || (brackets && *rest++ != ']'))
        return false;
    if (*rest == ':')
        rest += 1 + strspn(rest + 1, "0123456789");
    (void)snprintf(name, sizeof(name), "%.*s", (int)size, from);
    return *rest == '\0' && (strcasecmp(name, "localhost") == 0 || conf_is_loopback(name) ||
                             is_same_address(name, listen));
}

/* The page of this very address, by the name the browser used for it. */
static bool is_own_origin(const char *origin, const char *host)
{
    static const char scheme[] = "http://";
    return strncasecmp(origin, scheme, sizeof(scheme) - 1) == 0 &&
           strcasecmp(origin + sizeof(scheme) - 1, host) == 0;
}

/* In a time that tells nothing of the token but its length. */
static bool has_token(const char *authorization, const char *token)
{
    static const char scheme[] = "Bearer ";
    if (strncasecmp(authorization, scheme, sizeof(scheme) - 1) != 0)
        return false;
    const char *given =
        authorization + sizeof(scheme) - 1 + strspn(authorization + sizeof(scheme) - 1, " ");
    const size_t size = strlen(token);
    unsigned char difference = 0;
    if (size == 0 || strlen(given) != size)
        return false;
    for (size_t i = 0; i < size; i++)
        difference |= (unsigned char)(given[i] ^ token[i]);
    return difference == 0;
}

static bool is_json(const char *content_type)
{
    static const char wanted[] = "application/json";
    if (strncasecmp(content_type, wanted, sizeof(wanted) - 1) != 0)
        return false;
    const char end = content_type[sizeof(wanted) - 1];
    return end == '\0' || end == ';' || end == ' ';
}

struct request_fault request_judge(const struct request *request, const char *listen,
                                   const char *token)
{
    if (token == NULL)
        return (struct request_fault){403, "read_only",
                                      "no token_file is configured: nothing can be set here"};
    if (request->repeated)
        return (struct request_fault){403, "forbidden", "a header field stands there twice"};
    if (request->host == NULL || !is_own_host(request->host, listen))
        return (struct request_fault){403, "forbidden",
                                      "Host is not the address listened on, localhost or loopback"};
    if (request->origin != NULL && !is_own_origin(request->origin, request->host))
        return (struct request_fault){403, "forbidden", "Origin is another page"};
    if (request->authorization == NULL || !has_token(request->authorization, token))
        return (struct request_fault){
            401, "unauthorized", "Authorization: Bearer with the token of token_file is wanted"};
    if (request->content_type == NULL || !is_json(request->content_type))
        return (struct request_fault){415, "not_json", "Content-Type: application/json is wanted"};
    return (struct request_fault){0};
}
