/* layouts: what the values of a sample are, kept once and packed for the disk. */
#include "tests/unit/given.h"

#include <dirent.h>
#include <math.h>

#include "bridge/store/layouts.h"

static unsigned char packed[LAYOUTS_PACKED_MAX];

static struct profile *read_profile(const char *name)
{
    const char *const directories[] = {FLUXBRIDGE_SOURCE_PROFILES, NULL};
    struct given given;
    given_cfg(&given);
    struct profile *profile = profile_read(&given.cfg, NULL, directories, name);
    assert_said(&given, "");
    assert_non_null(profile);
    return profile;
}

static void assert_same_point(const struct point *kept, const struct point *point)
{
    assert_string_equal(kept->name, point->name);
    assert_string_equal(kept->unit, point->unit);
    assert_int_equal(kept->table, point->table);
    assert_int_equal(kept->type, point->type);
    assert_int_equal(kept->bits, point->bits);
    assert_int_equal(kept->enumerated, point->enumerated);
    assert_true(kept->scale == point->scale && kept->offset == point->offset);
    assert_int_equal(kept->n_labels, point->n_labels);
    for (unsigned i = 0; i < point->n_labels; i++) {
        assert_true(kept->labels[i].value == point->labels[i].value);
        assert_string_equal(kept->labels[i].label, point->labels[i].label);
    }
}

/* Another run, which has only what is on disk. */
static void assert_survives(const struct layout *kept, const struct profile *profile)
{
    struct layouts *other = layouts_new();
    const size_t size = layouts_pack(kept, packed, sizeof packed);
    assert_true(size > 0);
    const struct layout *unpacked = layouts_unpack(other, packed, size);
    assert_non_null(unpacked);
    assert_string_equal(unpacked->device, kept->device);
    assert_int_equal(unpacked->n_points, profile->n_points);
    for (unsigned i = 0; i < profile->n_points; i++)
        assert_same_point(&unpacked->points[i], &profile->points[i]);
    for (size_t room = 0; room < size; room++) { /* a part of it is none */
        unsigned char *tight = malloc(room + 1);
        memcpy(tight, packed, room);
        assert_null(layouts_unpack(other, tight, room));
        assert_int_equal(layouts_pack(kept, tight, room), 0);
        free(tight);
    }
    packed[size] = 0;
    assert_null(layouts_unpack(other, packed, size + 1));
    layouts_free(other);
}

static void test_every_profile_survives(void **state)
{
    (void)state;
    unsigned n = 0;
    DIR *directory = opendir(FLUXBRIDGE_SOURCE_PROFILES);
    assert_non_null(directory);
    struct layouts *layouts = layouts_new();
    for (struct dirent *entry; (entry = readdir(directory));) {
        char type[64];
        if (sscanf(entry->d_name, "%63[^.]", type) != 1 ||
            strcmp(entry->d_name + strlen(type), ".cfg") != 0)
            continue;
        struct profile *profile = read_profile(type);
        struct layout layout = {
            .device = "any", .n_points = profile->n_points, .points = profile->points};
        const struct layout *kept = layouts_keep(layouts, &layout);
        assert_non_null(kept);
        assert_int_equal(kept->number, ++n);
        assert_ptr_equal(layouts_keep(layouts, &layout), kept); /* kept once */
        assert_survives(kept, profile);
        profile_free(profile);
    }
    closedir(directory);
    layouts_free(layouts);
    assert_true(n >= 3);
}

static void test_devices_of_a_type_share_its_points(void **state)
{
    (void)state;
    struct profile *profile = read_profile("acuvim2-vendor");
    struct layouts *layouts = layouts_new();
    const struct layout *all[100];
    for (int i = 0; i < 100; i++) {
        struct layout layout = {.n_points = profile->n_points, .points = profile->points};
        snprintf(layout.device, sizeof layout.device, "m%d", i);
        all[i] = layouts_keep(layouts, &layout);
        assert_ptr_equal(all[i]->points, all[0]->points);
        assert_ptr_not_equal(all[i], i > 0 ? all[i - 1] : NULL);
    }
    struct layout text = {.device = "m1", .is_text = true};
    assert_ptr_not_equal(layouts_keep(layouts, &text), all[1]);
    layouts_free(layouts);
    profile_free(profile);
}

static void test_what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    static const char *const devices[] = {"", "a/b", "a b", "+", "\xff"};
    struct point point = {.name = "soe", .table = POINT_INPUT, .type = POINT_INT16, .scale = 1};
    struct layout layout = {.device = "a", .n_points = 1, .points = &point};
    struct layouts *layouts = layouts_new();
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
        strcpy(layout.device, devices[i]);
        assert_null(layouts_keep(layouts, &layout));
    }
    strcpy(layout.device, "a");
    const struct point good = point;
    strcpy(point.name, "a\"b");
    assert_null(layouts_keep(layouts, &layout));
    point = good;
    strcpy(point.unit, "\n");
    assert_null(layouts_keep(layouts, &layout));
    point = good;
    point.scale = 0;
    assert_null(layouts_keep(layouts, &layout));
    const double no_factors[] = {(double)NAN, (double)INFINITY};
    for (size_t i = 0; i < 2; i++) {
        point = good;
        point.scale = no_factors[i];
        assert_null(layouts_keep(layouts, &layout));
        point = good;
        point.offset = no_factors[i];
        assert_null(layouts_keep(layouts, &layout));
    }
    point = good;
    point.type = POINT_TYPES;
    assert_null(layouts_keep(layouts, &layout));
    point = good;
    layout.is_text = true; /* a text has no points */
    assert_null(layouts_keep(layouts, &layout));
    layout.is_text = false;
    assert_non_null(layouts_keep(layouts, &layout));
    layouts_free(layouts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_profile_survives),
        cmocka_unit_test(test_devices_of_a_type_share_its_points),
        cmocka_unit_test(test_what_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
