#include "bridge/cli/simulated.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_MAX_SIZE = 1024 };

static struct device *find(struct device_list *list, const char *name, size_t size)
{
    for (unsigned i = 0; i < list->n_devices; i++)
        if (strlen(list->devices[i].name) == size &&
            strncmp(list->devices[i].name, name, size) == 0)
            return &list->devices[i];
    return NULL;
}

/* "serving NAME TYPE at HOST:PORT unit N": redirects the device, and marks it. False
 * when the line says something else. A simulator may serve more than this site has. */
static bool take_line(char *line, struct device_list *list, bool *taken)
{
    static const char serving[] = "serving ";
    char *at = strstr(line, " at "), *unit = strstr(line, " unit ");
    if (strncmp(line, serving, strlen(serving)) != 0 || at == NULL || unit == NULL || unit < at)
        return false;
    const char *name = line + strlen(serving);
    char *host = at + strlen(" at ");
    *unit = '\0';
    char *colon = strrchr(host, ':'), *end;
    const long port = colon != NULL ? strtol(colon + 1, &end, 10) : 0;
    if (port < 1 || port > UINT16_MAX || *end != '\0')
        return false;
    *colon = '\0';
    if (*host == '[' && colon[-1] == ']') {
        host++;
        colon[-1] = '\0';
    }
    struct device *device = find(list, name, strcspn(name, " "));
    if (device != NULL && strlen(host) <= DEVICE_HOST_MAX) {
        place_redirect(&device->modbus, host, (uint16_t)port);
        taken[device - list->devices] = true;
    }
    return true;
}

/* Up to "ready"; false when that does not come. */
static bool take_lines(FILE *file, struct device_list *list, bool *taken)
{
    char line[LINE_MAX_SIZE];
    while (fgets(line, sizeof(line), file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strcmp(line, "ready") == 0)
            return true;
        if (!take_line(line, list, taken))
            return false;
    }
    return false;
}

bool simulated_take_over(const char *verb, const char *path, struct device_list *list)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    bool *taken = calloc(list->n_devices + 1u, sizeof(*taken));
    bool good = false;
    if (file == NULL || taken == NULL) {
        fprintf(stderr, "fluxbridge %s: --sim %s: %s\n", verb, path, strerror(errno));
        goto done;
    }
    if (!take_lines(file, list, taken)) {
        fprintf(stderr,
                "fluxbridge %s: --sim %s: this is not what fluxbridge-sim --listen prints when it "
                "is ready\n",
                verb, path);
        goto done;
    }
    good = true;
    for (unsigned i = 0; i < list->n_devices; i++) {
        if (!taken[i])
            fprintf(stderr, "fluxbridge %s: --sim %s: device '%s' is not simulated\n", verb, path,
                    list->devices[i].name);
        good = good && taken[i];
    }
done:
    free(taken);
    if (file != NULL && file != stdin)
        fclose(file);
    return good;
}
