/* The manual page fluxbridge.conf(5) and the example etc/fluxbridge.cfg against
 * the tables that read a configuration: the page has every key, its kind, its
 * range and its default, in the order of the code, and nothing else; the example
 * has every key, be it in a comment, and none that there is not. */
/* For their tables, which nobody else sees. */
#include "bridge/site/conf.c"
#undef FIELD
#include "devices/registers/device_points.c"
#undef FIELD
#include "devices/registers/device_control.c"
#undef FIELD
#include "devices/registers/device_list.c"
#undef FIELD
#undef TEXT
#include "devices/registers/place.c"

#include "tests/unit/given.h"

#define PAGE    TESTS_DIR "/../packaging/man/fluxbridge.conf.5"
#define EXAMPLE TESTS_DIR "/../etc/fluxbridge.cfg"

/* Every file that has a table of keys for this page. */
static const char *const sources[] = {
    TESTS_DIR "/../bridge/site/conf.c",
    TESTS_DIR "/../devices/registers/device_list.c",
    TESTS_DIR "/../devices/registers/device_points.c",
    TESTS_DIR "/../devices/registers/device_control.c",
    TESTS_DIR "/../devices/registers/place.c",
};
enum { N_SOURCES = sizeof sources / sizeof *sources };

enum { LINE = 512 };

/* ---- a table's row in words ---- */

static const struct polled {
    const char *name;
    double size;
} durations[] = {{"h", 3600}, {"m", 60}, {"s", 1}, {"ms", 1e-3}, {0}},
  sizes[] = {{"GiB", 0x1p30}, {"MiB", 0x1p20}, {"KiB", 0x1p10}, {0}};

/* In the largest unit that leaves a whole number. */
static void print_quantity(FILE *out, const struct polled *units, double number)
{
    while (units[1].name != NULL && (number < units->size || fmod(number, units->size) != 0))
        units++;
    if (number == 0)
        units = durations + 2;
    fprintf(out, "\"%.15g%s\"", round(number / units->size), units->name);
}

static void print_number(FILE *out, enum cfg_kind kind, double number)
{
    if (kind == CFG_DURATION)
        print_quantity(out, durations, number);
    else if (kind == CFG_SIZE)
        print_quantity(out, sizes, number);
    else
        fprintf(out, "%.15g", number);
}

static void print_kind(FILE *out, const struct cfg_field *field)
{
    static const char *const words[] = {
        [CFG_TEXT] = "text",         [CFG_NUMBER] = "number",
        [CFG_INTEGER] = "integer",   [CFG_BOOLEAN] = "true or false",
        [CFG_DURATION] = "duration", [CFG_SIZE] = "size",
    };
    for (unsigned i = 0; field->kind == CFG_CHOICE && field->choices[i] != NULL; i++)
        fprintf(out, "%s\"%s\"",
                i == 0                          ? ""
                : field->choices[i + 1] != NULL ? ", "
                                                : " or ",
                field->choices[i]);
    if (field->kind < CFG_CHOICE)
        fputs(words[field->kind], out);
    if (field->kind == CFG_TEXT || (field->min == 0 && field->max == 0))
        return;
    fputc(' ', out);
    print_number(out, field->kind, field->min);
    if (field->max != field->min) {
        fputs(" to ", out);
        print_number(out, field->kind, field->max);
    }
}

/* What holds without the key: a number outside of its range is a rule that is
 * off. */
static void print_default(FILE *out, const struct cfg_field *field, const void *defaults)
{
    const char *at = (const char *)defaults + field->offset;
    int64_t integer;
    double number = NAN;

    if (field->kind == CFG_TEXT) {
        fprintf(out, *at != '\0' ? "default \"%s\"" : "optional", at);
    } else if (field->kind == CFG_BOOLEAN) {
        fprintf(out, "default %s", *(const bool *)at ? "true" : "false");
    } else if (field->kind == CFG_CHOICE) {
        const int choice = *(const int *)at;
        if (choice < 0)
            fputs("default as in the type", out);
        else
            fprintf(out, "default \"%s\"", field->choices[choice]);
    } else {
        memcpy(&integer, at, sizeof integer);
        if (field->kind == CFG_NUMBER)
            memcpy(&number, at, sizeof number);
        else
            number = (double)integer / (field->kind == CFG_DURATION ? 1e9 : 1);
        if (isnan(number) || number < field->min || (field->max != 0 && number > field->max)) {
            fputs("off unless given", out);
        } else {
            fputs("default ", out);
            print_number(out, field->kind, number);
        }
    }
}

/* KEY (KIND RANGE, DEFAULT) */
static void print_row(FILE *out, const struct cfg_field *field, const void *defaults)
{
    fprintf(out, "%s (", field->key);
    print_kind(out, field);
    if (field->kind != CFG_OTHER)
        fputs(", ", out);
    if (field->required)
        fputs("required", out);
    else if (field->kind == CFG_OTHER)
        fputs("optional", out);
    else if (defaults == NULL)
        fputs("default as in the type", out);
    else
        print_default(out, field, defaults);
    fputs(")\n", out);
}

/* ---- the page ---- */

/* Roff without its marks for fonts and minus signs. */
static void strip(char *line)
{
    char *to = line;
    for (const char *from = line; *from != '\0'; from++) {
        if (from[0] == '\\' && from[1] == 'f')
            from += 2;
        else if (from[0] == '\\' && from[1] == '-')
            continue;
        else
            *to++ = *from;
    }
    *to = '\0';
}

/* The rows of the page's CONFIGURATION KEYS: headings as "[name]", and the line
 * behind each .TP. */
static char *read_page(void)
{
    char line[LINE], *text;
    size_t size;
    FILE *page = fopen(PAGE, "r"), *out = open_memstream(&text, &size);
    bool inside = false, tag = false;

    assert_non_null(page);
    assert_non_null(out);
    while (fgets(line, sizeof line, page) != NULL) {
        if (strncmp(line, ".SH ", 4) == 0)
            inside = strcmp(line, ".SH KEYS\n") == 0;
        if (inside && strncmp(line, ".SS ", 4) == 0)
            fprintf(out, "[%.*s]\n", (int)strcspn(line + 4, "\n"), line + 4);
        strip(line);
        if (inside && tag)
            fputs(line, out);
        tag = strcmp(line, ".TP\n") == 0;
    }
    fclose(page);
    fclose(out);
    return text;
}

/* The tables of keys in a source. */
static unsigned count_tables(const char *path)
{
    char line[LINE];
    unsigned n = 0;
    FILE *source = fopen(path, "r");
    assert_non_null(source);
    while (fgets(line, sizeof line, source) != NULL)
        n += strncmp(line, "static const struct cfg_field ", 30) == 0;
    fclose(source);
    return n;
}

/* A configuration of nothing but what is required. */
static void read_smallest(struct conf *conf)
{
    struct cfg cfg = {.out = stderr};
    setenv("FLUXBRIDGE_PROFILES", FLUXBRIDGE_SOURCE_PROFILES, 1);
    given_file("site.cfg", "site = \"SITE\"; mqtt: { url = \"mqtt://127.0.0.1\"; }; devices: { "
                           "bess = ( { id = \"1\"; name = \"B\"; type = \"powerpack\";"
                           "  modbus: { host = \"127.0.0.1\"; address = 1; };"
                           "  control: { ready_status = [ 1 ]; min_kw = -1; max_kw = 1;"
                           "             positive_is = \"discharge\"; }; } ); };");
    assert_true(conf_read(&cfg, "site.cfg", conf));
    conf->devices.devices[0].modbus.host[0] = '\0'; /* no default */
}

/* ---- the tables ---- */

/* The structures that the fields fill, with what holds without a key. */
static struct conf conf_defaults;
static struct device_keys head_defaults;
static struct device_modbus modbus_defaults;
static struct control_keys sheet_defaults;

static const struct {
    const char *heading; /* of the page */
    const char *path;    /* in the example; '*' stands for a device of either list */
    const struct cfg_field *fields;
    const void *defaults; /* NULL: the type's values */
} groups[] = {
    {"The file", "", ROOT, &conf_defaults},
    {"mqtt", "mqtt.", MQTT, &conf_defaults.mqtt},
    {"mqtt.tls", "mqtt.tls.", TLS, &conf_defaults.mqtt},
    {"home_assistant", "home_assistant.", HOME_ASSISTANT, &conf_defaults},
    {"sparkplug", "sparkplug.", SPARKPLUG, &conf_defaults.sparkplug},
    {"spool", "spool.", SPOOL, &conf_defaults},
    {"audit", "audit.", AUDIT, &conf_defaults},
    {"log", "log.", LOG, &conf_defaults},
    {"http", "http.", HTTP, &conf_defaults},
    {"devices", "devices.", LISTS, NULL},
    {"A device", "*.", HEAD, &head_defaults},
    {"modbus", "*.modbus.", MODBUS, &modbus_defaults},
    {"modbus.tls", "*.modbus.tls.", FILES, &modbus_defaults},
    {"points", "*.points.", OVERRIDE, NULL},
    {"control", "*.control.", CONTROL, &sheet_defaults},
    {"control.deadman", "*.control.deadman.", DEADMAN, &sheet_defaults.control},
};

enum { N_GROUPS = sizeof groups / sizeof *groups };

static void test_every_key_is_described(void **state)
{
    char *expected, *page;
    size_t size;
    (void)state;
    read_smallest(&conf_defaults);
    const struct device *device = &conf_defaults.devices.devices[0];
    head_defaults = (struct device_keys){.poll_ns = device->poll_ns,
                                         .longest_silence_ns = device->longest_silence_ns};
    modbus_defaults = device->modbus;
    sheet_defaults = (struct control_keys){.control = device->control, .idle = -1};
    FILE *out = open_memstream(&expected, &size);
    assert_non_null(out);
    for (size_t i = 0; i < N_GROUPS; i++) {
        fprintf(out, "[%s]\n", groups[i].heading);
        for (const struct cfg_field *field = groups[i].fields; field->key != NULL; field++)
            print_row(out, field, groups[i].defaults);
    }
    fclose(out);
    page = read_page();
    assert_string_equal(page, expected);
    unsigned tables = 0;
    for (size_t i = 0; i < N_SOURCES; i++)
        tables += count_tables(sources[i]);
    assert_int_equal(tables, N_GROUPS);
    free(page);
    free(expected);
    conf_free(&conf_defaults);
}

/* ---- the example ---- */

/* The line, or the setting in it when it is a comment that holds one. */
static const char *uncommented(const char *line)
{
    const char *text = line + strspn(line, " ");
    if (strncmp(text, "// ", 3) != 0)
        return line;
    text += 3;
    text += strspn(text, " ");
    const char *behind = text + strspn(text, "abcdefghijklmnopqrstuvwxyz_");
    behind += strspn(behind, " ");
    bool setting =
        behind > text && (strncmp(behind, "= ", 2) == 0 ||
                          (strncmp(behind, ": ", 2) == 0 && strchr("{(", behind[2]) != NULL));
    return setting || strchr("{}()", *text) != NULL ? text : line;
}

static void write_uncommented(const char *path)
{
    char line[LINE];
    FILE *from = fopen(EXAMPLE, "r"), *to = fopen(path, "w");
    assert_non_null(from);
    assert_non_null(to);
    while (fgets(line, sizeof line, from) != NULL)
        fputs(uncommented(line), to);
    fclose(from);
    assert_int_equal(fclose(to), 0);
}

/* Whether a setting has the key at the end of the path, or one of the elements of
 * a list on the way has: "devices.bess.points.name". */
static bool shows(const struct cfg_setting *setting, const char *path)
{
    char name[LINE];
    if (setting == NULL || *path == '\0')
        return setting != NULL;
    if (cfg_is_list(setting)) {
        for (const struct cfg_setting *s = cfg_first(setting); s != NULL; s = cfg_next(s))
            if (shows(s, path))
                return true;
        return false;
    }
    const size_t size = strcspn(path, ".");
    snprintf(name, sizeof name, "%.*s", (int)size, path);
    return shows(cfg_member(setting, name), path + size + (path[size] == '.'));
}

static void test_the_example_shows_every_key(void **state)
{
    struct cfg cfg = {.out = stderr};
    struct given given;
    struct conf conf;
    bool whole = true;
    (void)state;
    write_uncommented("all.cfg");
    const struct cfg_setting *root = cfg_open(&cfg, "all.cfg");
    assert_non_null(root);
    for (size_t i = 0; i < N_GROUPS; i++)
        for (const struct cfg_field *field = groups[i].fields; field->key != NULL; field++) {
            char bess[LINE], meters[LINE];
            const char *at = groups[i].path;
            const bool device = *at == '*'; /* of either list */
            snprintf(bess, sizeof bess, "%s%s%s", device ? "devices.bess" : "",
                     device ? at + 1 : at, field->key);
            snprintf(meters, sizeof meters, "devices.meters%s%s", device ? at + 1 : at, field->key);
            if (!shows(root, bess) && !(device && shows(root, meters))) {
                print_error("etc/fluxbridge.cfg does not show %s of %s\n", field->key,
                            groups[i].heading);
                whole = false;
            }
        }
    cfg_close(root);
    assert_true(whole);
    /* Some exclude each other, but all of them are known. */
    given_cfg(&given);
    (void)conf_read(&given.cfg, "all.cfg", &conf);
    fclose(given.cfg.out);
    conf_free(&conf);
    if (strstr(given.said, "unknown key") != NULL)
        fail_msg("%s", given.said);
    free(given.said);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_key_is_described),
        cmocka_unit_test(test_the_example_shows_every_key),
    };
    return cmocka_run_group_tests(tests, given_directory, remove_directory);
}
