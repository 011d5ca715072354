#include "profile_bed.h"

#include <dirent.h>
#include <inttypes.h>
#include <math.h>

#include "devices/registers/codec.h"

/* ---- golden files: raw registers and the values they mean */

struct golden {
    uint16_t words[5][65536]; /* by table */
    bool given[5][65536];
    unsigned n;
    struct {
        char name[80], text[80];
        bool seen;
    } values[PROFILE_POINTS_MAX * 2];
};

/* Where the golden file keeps a row's registers: those of SunSpec's models apart. */
static unsigned table_in(const struct point *point)
{
    return point->model ? 0 : (unsigned)point->table;
}

static unsigned address_in(const struct point *point)
{
    return point->model % 128U * 512U + point->address;
}

static unsigned table_of(const char *word)
{
    for (unsigned table = POINT_COIL; table <= POINT_INPUT; table++)
        if (strcmp(word, point_table_word((enum point_table)table)) == 0)
            return table;
    fail_msg("no table '%s'", word);
    return 0;
}

static void read_golden_line(struct golden *golden, char *line)
{
    char table[16] = "holding", *colon = strchr(line, ':');
    unsigned address, used, word, model = 0, index;
    line[strcspn(line, "\n")] = '\0';
    if (line[0] == '\0' || line[0] == '#')
        return;
    if (!colon) {
        assert_int_equal(sscanf(line, "%79[a-z0-9_] = %79[^\n]", golden->values[golden->n].name,
                                golden->values[golden->n].text),
                         2);
        golden->n++;
        return;
    }
    if (sscanf(line, "model %u %x", &model, &address) == 2) {
        address += model % 128 * 512;
    } else if (sscanf(line, "%15[a-z] %x", table, &address) != 2) {
        strcpy(table, "holding");
        assert_int_equal(sscanf(line, "%x", &address), 1);
    }
    index = model ? 0 : table_of(table);
    for (const char *at = colon + 1; sscanf(at, "%x%n", &word, &used) == 1; at += used) {
        golden->words[index][address] = (uint16_t)word;
        golden->given[index][address++] = true;
    }
}

static void expect(struct golden *golden, const char *name, const char *suffix, const char *text)
{
    char whole[80];
    snprintf(whole, sizeof whole, "%s%s", name, suffix);
    for (unsigned i = 0; i < golden->n; i++) {
        if (strcmp(golden->values[i].name, whole) == 0) {
            assert_string_equal(golden->values[i].text, text);
            assert_false(golden->values[i].seen);
            golden->values[i].seen = true;
            return;
        }
    }
    fail_msg("no golden value for %s", whole);
}

/* The values of all rows, as a scan gives them. */
static void decode_golden(const struct profile *profile, const struct golden *golden,
                          struct value *values)
{
    for (unsigned i = 0; i < profile->n_points; i++) {
        const struct point *point = &profile->points[i];
        for (unsigned k = 0; k < point_width(point) && !point->made; k++)
            assert_true(golden->given[table_in(point)][address_in(point) + k]);
        if (!point->made)
            values[i] = codec_decode(point, &golden->words[table_in(point)][address_in(point)]);
        if (point->scale_row) {
            const struct point *row = &profile->points[point->scale_row - 1];
            struct value scale = codec_decode(row, &golden->words[table_in(row)][address_in(row)]);
            codec_rescale(point, &scale, &values[i]);
        }
    }
    drive_make(&profile->drive, profile->points, values);
}

static void compare(const struct profile *profile, struct golden *golden)
{
    struct value values[PROFILE_POINTS_MAX];
    decode_golden(profile, golden, values);
    for (unsigned i = 0; i < profile->n_points; i++) {
        const struct point *point = &profile->points[i];
        char text[CODEC_TEXT_MAX], code[CODEC_TEXT_MAX];
        const struct value value = values[i];
        assert_int_equal(value.state, VALUE_READ);
        codec_print(point, &value, text);
        if (point->enumerated) {
            const char *label = point_label(point, (int64_t)value.raw);
            snprintf(code, sizeof code, "code_%" PRId64, (int64_t)value.raw);
            expect(golden, point->name, "", label ? label : code);
            expect(golden, point->name, "_code", text);
        } else {
            expect(golden, point->name, "", text);
        }
    }
    for (unsigned i = 0; i < golden->n; i++)
        if (!golden->values[i].seen)
            fail_msg("the profile has no %s", golden->values[i].name);
}

static void every_profile_matches_its_golden_file(void **state)
{
    (void)state;
    unsigned found = 0;
    DIR *directory = opendir(FLUXBRIDGE_SOURCE_PROFILES);
    assert_non_null(directory);
    for (struct dirent *entry; (entry = readdir(directory));) {
        char type[64], path[512], line[512];
        char ending[8] = "";
        if (sscanf(entry->d_name, "%63[^.].%7s", type, ending) != 2 || strcmp(ending, "cfg") != 0)
            continue;
        found++;
        snprintf(path, sizeof path, "%s/%s.cfg", FLUXBRIDGE_SOURCE_PROFILES, type);
        struct profile *profile = read_good(path, type);

        struct golden *golden = calloc(1, sizeof *golden);
        assert_non_null(golden);
        snprintf(path, sizeof path, "%s/unit/golden/%s.golden", TESTS_DIR, type);
        FILE *file = fopen(path, "r");
        if (!file)
            fail_msg("profile %s has no %s", type, path);
        while (fgets(line, sizeof line, file))
            read_golden_line(golden, line);
        fclose(file);
        compare(profile, golden);
        free(golden);
        profile_free(profile);
    }
    closedir(directory);
    assert_true(found >= 15);
}

/* The documented map, word by word: what a typing error in a profile and in
 * its golden file together could not hide. */
static void the_documented_maps(void **state)
{
    (void)state;
    static const struct {
        const char *type, *name, *unit;
        unsigned address;
        enum point_type is;
        double scale;
        bool writable;
    } rows[] = {
        {"powerpack", "status", "", 2000, POINT_UINT16, 1, false},
        {"powerpack", "target_power", "kW", 2008, POINT_INT16, 1, true},
        {"powerpack", "command_source", "", 2010, POINT_UINT16, 1, true},
        {"powerpack", "soe", "%", 2026, POINT_UINT16, 1, false},
        {"powerpack", "available_blocks", "", 2028, POINT_UINT16, 1, false},
        {"acuvim2", "voltage_l1_n", "V", 0x0000, POINT_FLOAT32, 1, false},
        {"acuvim2", "current_l1", "A", 0x0010, POINT_FLOAT32, 1, false},
        {"acuvim2", "active_power_total", "W", 0x0040, POINT_FLOAT32, 1000, false},
        {"acuvim2", "energy_import", "kWh", 0x0100, POINT_FLOAT32, 1, false},
        {"acuvim2-vendor", "frequency", "Hz", 0x4000, POINT_FLOAT32, 1, false},
        {"acuvim2-vendor", "voltage_ll_avg", "V", 0x4010, POINT_FLOAT32, 1, false},
        {"acuvim2-vendor", "current_n", "A", 0x401a, POINT_FLOAT32, 1, false},
        {"acuvim2-vendor", "active_power_total", "W", 0x4022, POINT_FLOAT32, 1, false},
        {"acuvim2-vendor", "reactive_power_total", "var", 0x402a, POINT_FLOAT32, 1, false},
        {"acuvim2-vendor", "apparent_power_total", "VA", 0x4032, POINT_FLOAT32, 1, false},
        {"acuvim2-vendor", "power_factor_total", "", 0x403a, POINT_FLOAT32, 1, false},
        {"acuvim2-vendor", "energy_import", "kWh", 0x4048, POINT_UINT32, 0.1, false},
        {"acuvim2-vendor", "energy_export", "kWh", 0x404a, POINT_UINT32, 0.1, false},
        {"acuvim2-vendor", "reactive_energy_import", "kvarh", 0x404c, POINT_UINT32, 0.1, false},
        {"acuvim2-vendor", "reactive_energy_export", "kvarh", 0x404e, POINT_UINT32, 0.1, false},
        {"acuvim2-vendor", "energy_net", "kWh", 0x4052, POINT_INT32, 0.1, false},
        {"acuvim2-vendor", "apparent_energy", "kVAh", 0x4058, POINT_UINT32, 0.1, false},
    };
    static const char *const here[] = {FLUXBRIDGE_SOURCE_PROFILES, NULL};
    static const struct {
        const char *type;
        unsigned n;
    } sizes[] = {{"powerpack", 5}, {"acuvim2", 4}, {"acuvim2-vendor", 36}};
    struct cfg cfg = {.file = "none"};
    for (unsigned i = 0; i < COUNT(sizes); i++) {
        struct profile *profile = profile_read(&cfg, NULL, here, sizes[i].type);
        assert_non_null(profile);
        assert_int_equal(profile->n_points, sizes[i].n);
        for (unsigned k = 0; k < COUNT(rows); k++) {
            if (strcmp(rows[k].type, sizes[i].type) != 0)
                continue;
            const struct point *point = profile->points;
            while (strcmp(point->name, rows[k].name) != 0)
                assert_true(++point < profile->points + profile->n_points);
            assert_string_equal(point->unit, rows[k].unit);
            assert_int_equal(point->address, rows[k].address);
            assert_int_equal(point->table, POINT_HOLDING);
            assert_int_equal(point->type, rows[k].is);
            assert_int_equal(point->order, POINT_ABCD);
            assert_true(point->scale == rows[k].scale && point->offset == 0);
            assert_int_equal(point->writable, rows[k].writable);
            assert_int_equal(point->enumerated, strcmp(point->name, "status") == 0);
        }
        profile_free(profile);
    }
}

/* devices/README.md: its example is loaded and gives the values it promises,
 * and its tables name every key. */
static void the_readme_is_true(void **state)
{
    (void)state;
    char line[512];
    struct golden *golden = calloc(1, sizeof *golden);
    FILE *readme = fopen(TESTS_DIR "/../devices/README.md", "r");
    FILE *example = fopen("example.cfg", "w");
    assert_true(golden && readme && example);
    enum { PROSE, PROFILE, GOLDEN } in = PROSE;
    while (fgets(line, sizeof line, readme)) {
        if (strncmp(line, "```", 3) == 0)
            in = strcmp(line, "```libconfig\n") == 0 ? PROFILE
                 : strcmp(line, "```golden\n") == 0  ? GOLDEN
                                                     : PROSE;
        else if (in == PROFILE)
            fputs(line, example);
        else if (in == GOLDEN)
            read_golden_line(golden, line);
    }
    fclose(example);
    struct profile *profile = read_good("example.cfg", "example");
    compare(profile, golden);
    profile_free(profile);
    free(golden);

    static const char *const keys[] = {"manufacturer",
                                       "model",
                                       "word_order",
                                       "function",
                                       "max_registers",
                                       "max_gap",
                                       "unreadable",
                                       "points",
                                       "name",
                                       "address",
                                       "type",
                                       "bits",
                                       "scale",
                                       "offset",
                                       "unit",
                                       "access",
                                       "min",
                                       "max",
                                       "labels",
                                       "enumerated",
                                       "every",
                                       "low",
                                       "high",
                                       "counter",
                                       "sentinels",
                                       "registers",
                                       "byte",
                                       "scale_register",
                                       "write_function",
                                       "sunspec_model"};
    for (unsigned i = 0; i < COUNT(keys); i++) {
        char wanted[32], uses[32];
        bool described = false, used = false;
        snprintf(wanted, sizeof wanted, "`%s`", keys[i]);
        snprintf(uses, sizeof uses, "%s = ", keys[i]);
        rewind(readme);
        while (fgets(line, sizeof line, readme)) {
            described = described || (line[0] == '|' && strstr(line, wanted));
            used = used || (line[0] != '|' && strstr(line, uses));
        }
        if (!described || !used)
            fail_msg("the README %s %s", described ? "has no example of" : "does not describe",
                     keys[i]);
    }
    fclose(readme);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_profile_matches_its_golden_file),
        cmocka_unit_test(the_documented_maps),
        cmocka_unit_test(the_readme_is_true),
    };
    return cmocka_run_group_tests_name("golden", tests, given_directory, remove_directory);
}
