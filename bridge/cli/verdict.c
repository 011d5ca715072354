#include "bridge/cli/verdict.h"

#include <ctype.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/cli/terminal.h"

static const char WARNING[] = "warning: ";

bool verdict_begin(struct verdict *verdict, bool json)
{
    *verdict = (struct verdict){.json = json};
    verdict->cfg.out = open_memstream(&verdict->text, &verdict->size);
    return verdict->cfg.out != NULL;
}

/* FILE:LINE: message. The end of FILE in a line, or NULL. */
static const char *end_of_file(const char *line)
{
    for (const char *colon = strchr(line, ':'); colon != NULL; colon = strchr(colon + 1, ':')) {
        const char *behind = colon + 1 + strspn(colon + 1, "0123456789");
        if (behind > colon + 1 && strncmp(behind, ": ", 2) == 0)
            return colon;
    }
    return NULL;
}

static const char *message_of(const char *line)
{
    const char *colon = end_of_file(line);
    return colon != NULL ? strchr(colon + 1, ':') + 2 : line;
}

static bool is_warning(const char *message)
{
    return strncmp(message, WARNING, strlen(WARNING)) == 0;
}

void verdict_show(struct verdict *verdict)
{
    const bool coloured = terminal_is_coloured(stdout);
    if (verdict->json || fflush(verdict->cfg.out) != 0)
        return;
    while (verdict->shown < verdict->size) {
        char *line = verdict->text + verdict->shown;
        char *end = strchr(line, '\n');
        if (end == NULL)
            break;
        *end = '\0';
        const char *colour = !coloured                      ? ""
                             : is_warning(message_of(line)) ? TERMINAL_YELLOW
                                                            : TERMINAL_RED;
        terminal_progress_end();
        printf("%s%s%s\n", colour, line, *colour != '\0' ? TERMINAL_PLAIN : "");
        *end = '\n';
        verdict->shown += (size_t)(end + 1 - line);
    }
}

void verdict_note_reload(void *context, const char *sentence)
{
    struct verdict *verdict = context;
    if (verdict->reload == NULL)
        verdict->reload = open_memstream(&verdict->reload_text, &verdict->reload_size);
    if (verdict->reload != NULL && *sentence != '\0')
        (void)fprintf(verdict->reload, "%s\n", sentence);
}

/* A line each; for people with what it is about in front. */
static void show_reload(struct verdict *verdict, json_t *array)
{
    char *rest = NULL;
    if (verdict->reload == NULL || fclose(verdict->reload) != 0)
        return;
    for (char *line = strtok_r(verdict->reload_text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        if (array != NULL)
            json_array_append_new(array, json_string(line));
        else
            printf("reload: %s\n", line);
    }
    free(verdict->reload_text);
}

static const char *plural(unsigned n)
{
    return n == 1 ? "" : "s";
}

static json_t *make_entry(const char *line)
{
    const char *colon = end_of_file(line), *message = message_of(line);
    json_t *entry = json_object();
    if (colon != NULL) {
        json_object_set_new(entry, "file", json_stringn(line, (size_t)(colon - line)));
        json_object_set_new(entry, "line", json_integer(atoi(colon + 1)));
    }
    message += is_warning(message) ? strlen(WARNING) : 0;
    json_object_set_new(entry, "message", json_string(message));
    return entry;
}

static void print_json(struct verdict *verdict, const char *path, const struct conf *conf)
{
    json_t *root = json_object(), *problems = json_array(), *warnings = json_array();
    char *rest = NULL;
    for (char *line = strtok_r(verdict->text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest))
        json_array_append_new(is_warning(message_of(line)) ? warnings : problems, make_entry(line));
    json_object_set_new(root, "file", json_string(path));
    json_object_set_new(root, "good", json_boolean(conf != NULL && verdict->cfg.problems == 0));
    if (conf != NULL) {
        json_object_set_new(root, "site", json_string(conf->site));
        json_object_set_new(root, "config_sha256", json_string(conf->sha256));
        json_object_set_new(root, "devices", json_integer(conf->devices.n_devices));
        json_object_set_new(root, "links", json_integer(conf->devices.n_links));
    }
    json_object_set_new(root, "problems", problems);
    json_object_set_new(root, "warnings", warnings);
    if (verdict->reload != NULL) {
        json_t *reload = json_array();
        show_reload(verdict, reload);
        json_object_set_new(root, "reload", reload);
    }
    (void)json_dumpf(root, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(root);
}

void verdict_end(struct verdict *verdict, const char *path, const struct conf *conf)
{
    if (verdict->cfg.out == NULL) {
        fprintf(stderr, "fluxbridge check: out of memory\n");
        return;
    }
    verdict_show(verdict);
    terminal_progress_end();
    fclose(verdict->cfg.out);
    if (!verdict->json)
        show_reload(verdict, NULL);
    if (verdict->json) {
        print_json(verdict, path, conf);
    } else if (conf != NULL && verdict->cfg.problems == 0) {
        const bool coloured = terminal_is_coloured(stdout);
        printf("%s: %sgood%s: %u device%s on %u link%s\n", path, coloured ? TERMINAL_GREEN : "",
               coloured ? TERMINAL_PLAIN : "", conf->devices.n_devices,
               plural(conf->devices.n_devices), conf->devices.n_links,
               plural(conf->devices.n_links));
    }
    free(verdict->text);
}
