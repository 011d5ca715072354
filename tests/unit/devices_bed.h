/* devices_bed: a `devices` group, read, and what was said about it. */
#ifndef TESTS_UNIT_DEVICES_BED_H
#define TESTS_UNIT_DEVICES_BED_H

#include "devices/registers/device_list.h"
#include "given.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const char *const HERE[] = {"profiles", FLUXBRIDGE_SOURCE_PROFILES, NULL};

/* Reads `text` as the `devices` group. Free the list in any case. */
static inline bool read_devices(const char *text, struct device_list *list, const char *said)
{
    struct given given;
    given_file("test.cfg", text);
    given_cfg(&given);
    const struct cfg_setting *root = cfg_open(&given.cfg, "test.cfg");
    const struct cfg_setting *group = cfg_member(root, "devices");
    assert_non_null(group);
    bool good = device_list_read(&given.cfg, group, HERE, list);
    cfg_close(root);
    assert_int_equal(good, given.cfg.problems == 0);
    assert_said(&given, said);
    return good;
}

/* One battery, its parts on lines of their own:
 * 2 names, 3 modbus, 4 more of the device, 5 control. */
#define NAMES   "id = \"b1\"; name = \"B-1\"; type = \"powerpack\";"
#define MODBUS  "host = \"10.0.0.7\"; address = 1;"
#define CONTROL "ready_status = [ 1 ]; min_kw = -250.0; max_kw = 250; positive_is = \"discharge\";"

static inline const char *battery(const char *names, const char *modbus, const char *more,
                                  const char *control)
{
    static char text[4096];
    snprintf(text, sizeof text, "devices: { bess = ( {\n%s\nmodbus: { %s };\n%s\n%s%s%s\n} ); };\n",
             names, modbus, more, control ? "control: { " : "", control ? control : "",
             control ? " };" : "");
    return text;
}

static inline void assert_bad(const char *text, const char *said)
{
    struct device_list list;
    char expected[1024];
    snprintf(expected, sizeof expected, "test.cfg:%s\n", said);
    assert_false(read_devices(text, &list, expected));
    device_list_free(&list);
}

static inline void assert_good(const char *text)
{
    struct device_list list;
    assert_true(read_devices(text, &list, ""));
    device_list_free(&list);
}

#endif
