#include "bridge/mqtt/certificate.h"

#include <dlfcn.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "bridge/base/clock.h"

/* Who calls X509_check_host() has no place to hand one over. */
static _Atomic int64_t broker_end_ms;

static int64_t end_ms(const X509 *certificate)
{
    int days = 0, seconds = 0;
    if (ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(certificate)) != 1)
        return 0;
    return clock_utc_ms() + (days * INT64_C(86400) + seconds) * 1000;
}

int X509_check_host(X509 *certificate, const char *name, size_t size, unsigned flags, char **found)
{
    int (*real)(X509 *, const char *, size_t, unsigned, char **);
    void *symbol = dlsym(RTLD_NEXT, "X509_check_host");
    if (symbol == NULL || certificate == NULL)
        return -2;                        /* an internal error: the library takes it for no match */
    memcpy(&real, &symbol, sizeof(real)); /* ISO C knows no cast from one to the other */
    atomic_store(&broker_end_ms, end_ms(certificate));
    return real(certificate, name, size, flags, found);
}

/* The first in the file is that of the key. */
static int64_t own_end_ms(const char *path)
{
    FILE *file = *path != '\0' ? fopen(path, "re") : NULL;
    X509 *certificate = file != NULL ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;
    const int64_t ms = certificate != NULL ? end_ms(certificate) : 0;
    X509_free(certificate);
    if (file != NULL)
        (void)fclose(file);
    return ms;
}

int64_t certificate_end_ms(const struct conf_mqtt *conf)
{
    const int64_t own_ms = conf->tls ? own_end_ms(conf->cert_file) : 0;
    const int64_t broker_ms = conf->tls ? atomic_load(&broker_end_ms) : 0;
    if (own_ms == 0 || broker_ms == 0)
        return own_ms != 0 ? own_ms : broker_ms;
    return own_ms < broker_ms ? own_ms : broker_ms;
}
