/* The manual page fluxbridge.conf(5) against the tables that read a
 * configuration: every key, its kind, its range and its default, in the order of
 * the code, and nothing else. */
/* For their tables, which nobody else sees. */
#include "bridge/site/conf.c"
#undef FIELD
#include "devices/registers/device.c"
#undef FIELD
#undef TEXT
#include "devices/registers/place.c"

#include "tests/unit/given.h"

#define PAGE   TESTS_DIR "/../packaging/man/fluxbridge.conf.5"
#define CONF   TESTS_DIR "/../bridge/site/conf.c"
#define DEVICE TESTS_DIR "/../devices/registers/device.c"
#define PLACE  TESTS_DIR "/../devices/registers/place.c"

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
        fprintf(out, "default \"%s\"", field->choices[*(const int *)at]);
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

static void test_every_key_is_described(void **state)
{
    struct conf conf;
    (void)state;
    read_smallest(&conf);
    const struct device *device = &conf.devices.devices[0];
    const struct head head = {.poll_ns = device->poll_ns,
                              .longest_silence_ns = device->longest_silence_ns};
    const struct sheet sheet = {.control = device->control};
    const struct {
        const char *heading;
        const struct cfg_field *fields;
        const void *defaults; /* the structure that the fields fill; NULL: the type's values */
    } groups[] = {
        {"The file", ROOT, &conf},
        {"mqtt", MQTT, &conf.mqtt},
        {"mqtt.tls", TLS, &conf.mqtt},
        {"home_assistant", HOME_ASSISTANT, &conf},
        {"spool", SPOOL, &conf},
        {"audit", AUDIT, &conf},
        {"log", LOG, &conf},
        {"http", HTTP, &conf},
        {"devices", LISTS, NULL},
        {"A device", HEAD, &head},
        {"modbus", MODBUS, &device->modbus},
        {"modbus.tls", FILES, &device->modbus},
        {"points", OVERRIDE, NULL},
        {"control", CONTROL, &sheet},
        {"control.deadman", DEADMAN, &sheet.control},
    };
    const size_t n = sizeof groups / sizeof *groups;
    char *expected, *page;
    size_t size;
    FILE *out = open_memstream(&expected, &size);
    assert_non_null(out);
    for (size_t i = 0; i < n; i++) {
        fprintf(out, "[%s]\n", groups[i].heading);
        for (const struct cfg_field *field = groups[i].fields; field->key != NULL; field++)
            print_row(out, field, groups[i].defaults);
    }
    fclose(out);
    page = read_page();
    assert_string_equal(page, expected);
    assert_int_equal(count_tables(CONF) + count_tables(DEVICE) + count_tables(PLACE), n);
    free(page);
    free(expected);
    conf_free(&conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_key_is_described),
    };
    return cmocka_run_group_tests(tests, given_directory, remove_directory);
}
