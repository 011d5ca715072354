#include "bridge/mqtt/address.h"

#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* The one variable of the program that is not in a structure: who calls
 * getaddrinfo() has no place to hand one over. */
static struct {
    pthread_mutex_t mutex;
    char host[CONF_TEXT_MAX + 1];
    char text[ADDRESS_TEXT_MAX];
} pinned = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static int ask_system(const char *name, const char *service, const struct addrinfo *hints,
                      struct addrinfo **result)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    void *symbol = dlsym(RTLD_NEXT, "getaddrinfo");
    if (symbol == NULL)
        return EAI_SYSTEM;
    memcpy(&real, &symbol, sizeof(real)); /* ISO C knows no cast from one to the other */
    return real(name, service, hints, result);
}

/* Only the library asks without a service. */
int getaddrinfo(const char *restrict name, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict result)
{
    char text[ADDRESS_TEXT_MAX] = "";
    if (name != NULL && service == NULL) {
        pthread_mutex_lock(&pinned.mutex);
        if (strcmp(name, pinned.host) == 0)
            memcpy(text, pinned.text, sizeof(text));
        pthread_mutex_unlock(&pinned.mutex);
    }
    return ask_system(text[0] != '\0' ? text : name, service, hints, result);
}

void address_pin(const char *host, const char *text)
{
    pthread_mutex_lock(&pinned.mutex);
    snprintf(pinned.host, sizeof(pinned.host), "%s", host);
    snprintf(pinned.text, sizeof(pinned.text), "%s", text);
    pthread_mutex_unlock(&pinned.mutex);
}

static bool has(const struct address_list *addresses, const char *text)
{
    for (unsigned i = 0; i < addresses->n; i++) {
        if (strcmp(addresses->list[i].text, text) == 0)
            return true;
    }
    return false;
}

bool address_resolve(const char *host, struct address_list *addresses, const char **why)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int error = ask_system(host, NULL, &hints, &found);
    addresses->n = 0;
    *why = error == EAI_SYSTEM ? strerror(errno) : gai_strerror(error);
    if (error != 0)
        return false;
    for (const struct addrinfo *a = found; a != NULL && addresses->n < ADDRESS_MAX;
         a = a->ai_next) {
        char *text = addresses->list[addresses->n].text;
        if (getnameinfo(a->ai_addr, a->ai_addrlen, text, ADDRESS_TEXT_MAX, NULL, 0,
                        NI_NUMERICHOST) == 0 &&
            !has(addresses, text))
            addresses->n++;
    }
    freeaddrinfo(found);
    *why = "it has no address";
    return addresses->n > 0;
}
