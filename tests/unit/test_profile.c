#include "given.h"

#include <dirent.h>
#include <inttypes.h>
#include <math.h>

#include "devices/registers/codec.h"
#include "devices/registers/profile.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Reads `text` as profile "test" and checks what is said. */
static struct profile *read_text(const char *text, const char *said)
{
    struct given given;
    given_file("test.cfg", text);
    given_cfg(&given);
    given.cfg.file = "outer.cfg";
    struct profile *profile = profile_read_file(&given.cfg, "test.cfg", "test");
    assert_string_equal(given.cfg.file, "outer.cfg");
    assert_int_equal(profile == NULL, given.cfg.problems > 0);
    assert_said(&given, said);
    return profile;
}

static struct profile *read_good(const char *path, const char *type)
{
    struct given given;
    given_cfg(&given);
    struct profile *profile = profile_read_file(&given.cfg, path, type);
    assert_said(&given, "");
    assert_non_null(profile);
    return profile;
}

static void defaults(void **state)
{
    (void)state;
    struct profile *profile =
        read_text("points = ( { name = \"a\"; address = 2000; type = \"uint32\"; } );", "");
    assert_string_equal(profile->type, "test");
    assert_string_equal(profile->manufacturer, "");
    assert_string_equal(profile->model, "");
    assert_int_equal(profile->max_registers, 125);
    assert_int_equal(profile->max_gap, 60);
    assert_int_equal(profile->n_unreadable, 0);
    assert_int_equal(profile->n_points, 1);
    const struct point *point = profile->points;
    assert_string_equal(point->name, "a");
    assert_string_equal(point->unit, "");
    assert_int_equal(point->address, 2000);
    assert_int_equal(point->table, POINT_HOLDING);
    assert_int_equal(point->type, POINT_UINT32);
    assert_int_equal(point->order, POINT_ABCD);
    assert_int_equal(point->bits, 0);
    assert_int_equal(point->every, 1);
    assert_false(point->writable);
    assert_false(point->enumerated);
    assert_true(point->scale == 1 && point->offset == 0);
    assert_true(isnan(point->min) && isnan(point->max));
    assert_true(isnan(point->low) && isnan(point->high));
    assert_false(point->counter);
    assert_int_equal(point->n_sentinels, 0);
    assert_int_equal(point->n_labels, 0);
    profile_free(profile);
}

static void every_key(void **state)
{
    (void)state;
    struct profile *profile = read_text(
        "manufacturer = \"M\"; model = \"N\"; word_order = \"cdab\"; function = 4;\n"
        "max_registers = 64; max_gap = 0;\n"
        "unreadable = ( { first = 5; last = 5; }, { function = 3; first = 0; last = 65535; },\n"
        " { function = 1; first = 9; last = 9; } );\n"
        "points = (\n"
        " { name = \"a\"; address = 0; type = \"float64\"; every = 255; },\n"
        " { name = \"b\"; address = 4; function = 1; type = \"bool\"; access = \"rw\"; },\n"
        " { name = \"c\"; address = 6; type = \"int32\"; word_order = \"dcba\"; bits = [4, 28];\n"
        "   labels = ( { value = -1; label = \"x\"; }, { value = 2; label = \"y\"; } ); },\n"
        " { name = \"d\"; address = 9; type = \"int16\"; scale = -0.5; offset = 40; unit = "
        "\"°C\";\n"
        "   access = \"r\"; low = -1; high = 2.5; counter = true;\n"
        "   sentinels = [ 0x7fff, -32768, 1, 2 ]; } );",
        "");
    assert_string_equal(profile->manufacturer, "M");
    assert_string_equal(profile->model, "N");
    assert_int_equal(profile->max_registers, 64);
    assert_int_equal(profile->max_gap, 0);
    assert_int_equal(profile->n_unreadable, 3);
    assert_int_equal(profile->unreadable[0].table, POINT_INPUT);
    assert_int_equal(profile->unreadable[0].first, 5);
    assert_int_equal(profile->unreadable[0].last, 5);
    assert_int_equal(profile->unreadable[1].table, POINT_HOLDING);
    assert_int_equal(profile->unreadable[1].last, 65535);
    const struct point *point = profile->points;
    assert_int_equal(point[0].table, POINT_INPUT);
    assert_int_equal(point[0].order, POINT_CDAB);
    assert_int_equal(point[0].every, 255);
    assert_int_equal(point[1].table, POINT_COIL);
    assert_true(point[1].writable);
    assert_int_equal(point[2].order, POINT_DCBA);
    assert_int_equal(point[2].bit, 4);
    assert_int_equal(point[2].bits, 28);
    assert_true(point[2].enumerated);
    assert_string_equal(point_label(&point[2], -1), "x");
    assert_string_equal(point_label(&point[2], 2), "y");
    assert_null(point_label(&point[2], 1));
    assert_true(point[3].scale == -0.5 && point[3].offset == 40);
    assert_string_equal(point[3].unit, "°C");
    assert_true(point[3].low == -1 && point[3].high == 2.5);
    assert_true(point[3].counter);
    assert_int_equal(point[3].n_sentinels, 4);
    assert_true(point[3].sentinels[0] == 0x7fff && point[3].sentinels[3] == 2);
    assert_true((int16_t)point[3].sentinels[1] == -32768);
    profile_free(profile);
}

#define LONGEST_LABEL                                                                              \
    "address = 0; type = \"int16\";"                                                               \
    "labels = ( { value = 1; label = \"12345678901234567890123456789012\"; } );"

/* Rows that are just within their limits. */
static void limits_inside(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "address = 65535; type = \"int16\";",
        "address = 65534; type = \"float32\";",
        "address = 65532; type = \"uint64\";",
        "address = 65535; type = \"bool\"; function = 2;",
        "address = 0; type = \"uint16\"; bits = [15, 1];",
        "address = 0; type = \"uint16\"; bits = [0, 16];",
        "address = 0; type = \"uint64\"; bits = [0, 64];",
        "address = 0; type = \"bool\"; bits = [0, 1];",
        "address = 0; type = \"int16\"; access = \"rw\"; min = -32768; max = 32767;",
        "address = 0; type = \"uint16\"; access = \"rw\"; scale = 0.1; min = 0; max = 6553.5;",
        "address = 0; type = \"int16\"; access = \"rw\"; scale = -1; max = 32768;",
        "address = 0; type = \"int16\"; access = \"rw\"; min = 5; max = 5;",
        "address = 0; type = \"int16\"; low = 5; high = 5;",
        LONGEST_LABEL,
        "address = 0; type = \"int16\"; unit = \"1234567890123456\";",
        "address = 0; type = \"bool\"; function = 1; access = \"rw\";",
        "address = 0; type = \"bool\"; function = 1; enumerated = true;",
        "address = 0; type = \"int16\"; word_order = \"badc\";",
        "address = 0; type = \"uint16\"; word_order = \"dcba\";",
        "address = 0; type = \"int64\"; sentinels = [ 0x8000000000000000, -9223372036854775808 ];",
        "address = 0; type = \"uint64\"; sentinels = ( \"0x8000000000000000\", "
        "18446744073709551615 );",
        "address = 0; type = \"int16\"; sentinels = [ 0xFFFF, -32768 ];",
        "address = 0; type = \"uint16\"; bits = [0, 4]; sentinels = [ 15 ];",
        "address = 0; type = \"float32\"; sentinels = [ 0x7FC00000 ];",
        "address = 0; type = \"int64\"; labels = ( { value = -9223372036854775808; label = \"x\"; "
        "} );",
        "address = 0; type = \"uint16\"; labels = ( { value = \"0xFFFF\"; label = \"x\"; } );",
        "address = 65504; type = \"string\"; registers = 32;",
        "address = 0; type = \"string\"; registers = 1; word_order = \"badc\";",
        "address = 0; type = \"uint8\"; byte = \"high\"; sentinels = [ 255 ];",
        "address = 0; type = \"int48\"; word_order = \"cdab\"; access = \"rw\"; max = 1e12;",
        "address = 0; type = \"bcd16\"; access = \"rw\"; max = 9999;",
        "address = 0; type = \"m10k64\"; access = \"rw\"; min = -9999999999999999.0;",
        "address = 0; type = \"int16\"; access = \"rw\"; write_function = 16;",
        "address = 0; type = \"int16\"; access = \"rw\"; write_function = 6;",
        "address = 0; type = \"int32\"; access = \"rw\"; write_function = 16;",
        "address = 0; type = \"bool\"; function = 1; access = \"rw\"; write_function = 15;",
        "address = 105; type = \"int32\"; sunspec_model = 203;",
    };
    for (unsigned i = 0; i < COUNT(rows); i++) {
        char text[256];
        snprintf(text, sizeof text, "points = ( { name = \"a\"; %s } );", rows[i]);
        profile_free(read_text(text, ""));
    }
}

#define NO_SENTINELS "sentinels must be [ 1 to 4 whole numbers ], such as [ 0xFFFF ]"

/* One row each, on line 3 after a good one, with one fault. */
static void faulty_rows(void **state)
{
    (void)state;
    static const struct {
        const char *row, *said;
    } rows[] = {
        {"",
         "missing key 'name'\ntest.cfg:3: missing key 'address'\ntest.cfg:3: missing key 'type'"},
        {"name = \"\"; address = 0; type = \"int16\";", "name must not be empty"},
        {"name = \"Soe\"; address = 0; type = \"int16\";",
         "'Soe': a point's name is made of a-z, 0-9 and _"},
        {"name = \"a-b\"; address = 0; type = \"int16\";",
         "'a-b': a point's name is made of a-z, 0-9 and _"},
        {"name = \"first\"; address = 0; type = \"int16\";", "two points are called 'first'"},
        {"name = \"first_code\"; address = 0; type = \"int16\";",
         "'first' and 'first_code': an enumerated point is published as _code too"},
        {"name = \"firs\"; address = 0; type = \"int16\"; speed = 1;", "unknown key 'speed'"},
        {"name = \"b\"; address = 65536; type = \"int16\";",
         "address must be from 0 to 65535, not 65536"},
        {"name = \"b\"; address = -1; type = \"int16\";",
         "address must be from 0 to 65535, not -1"},
        {"name = \"b\"; address = 65535; type = \"int32\";", "b runs past address 65535"},
        {"name = \"b\"; address = 65533; type = \"float64\";", "b runs past address 65535"},
        {"name = \"b\"; address = 0; type = \"real\";",
         "type must be \"int16\", \"uint16\", \"int32\", \"uint32\", \"int64\", \"uint64\", "
         "\"float32\", \"float64\", \"bool\", \"int8\", \"uint8\", \"uint24\", \"int48\", "
         "\"uint48\", \"bcd16\", \"bcd32\", \"m10k32\", \"m10k48\", \"m10k64\" or \"string\""},
        {"name = \"b\"; address = 0; type = \"int8\";", "b: int8 needs byte = \"high\" or \"low\""},
        {"name = \"b\"; address = 0; type = \"int16\"; byte = \"low\";",
         "b: byte is for int8 and uint8"},
        {"name = \"b\"; address = 0; type = \"string\";",
         "b: a string needs its number of registers"},
        {"name = \"b\"; address = 0; type = \"string\"; registers = 33;",
         "registers must be from 1 to 32, not 33"},
        {"name = \"b\"; address = 0; type = \"int16\"; registers = 2;",
         "b: registers is for strings: the others have their width"},
        {"name = \"b\"; address = 65535; type = \"string\"; registers = 2;",
         "b runs past address 65535"},
        {"name = \"b\"; address = 0; type = \"string\"; registers = 2; unit = \"V\";",
         "b: a text has no unit"},
        {"name = \"b\"; address = 0; type = \"string\"; registers = 2; access = \"rw\";",
         "b: string cannot be written"},
        {"name = \"b\"; address = 0; type = \"uint24\"; access = \"rw\";",
         "b: uint24 cannot be written"},
        {"name = \"b\"; address = 0; type = \"uint8\"; byte = \"low\"; word_order = \"badc\";",
         "b: byte says which half it is, word_order has nothing to add"},
        {"name = \"b\"; address = 0; type = \"bool\"; function = 1; word_order = \"badc\";",
         "b: a bit has no word_order"},
        {"name = \"b\"; address = 0; type = \"bcd16\"; bits = [0, 4];",
         "bits are taken from integer registers only"},
        {"name = \"b\"; address = 0; type = \"int16\"; write_function = 6;",
         "b has a write_function but is read-only"},
        {"name = \"b\"; address = 0; type = \"int16\"; access = \"rw\"; write_function = 15;",
         "b: write_function must be 6 or 16, not 15"},
        {"name = \"b\"; address = 0; type = \"int32\"; access = \"rw\"; write_function = 6;",
         "b: function 6 writes one register, and int32 has 2"},
        {"name = \"b\"; address = 0; type = \"int16\"; function = 4; sunspec_model = 1;",
         "b: SunSpec's models are holding registers"},
        {"name = \"b\"; address = 0; type = \"int16\"; access = \"rw\"; sunspec_model = 1;",
         "b: what is found by sunspec_model is only read"},
        {"name = \"b\"; address = 0; type = \"int16\"; scale_register = \"c\";",
         "b: scale_register names 'c', and there is no such row"},
        {"name = \"b\"; address = 0; type = \"int16\"; scale_register = \"first\";",
         "b: 'first' must be an integer without a scale of its own"},
        {"name = \"b\"; address = 0; type = \"int16\"; scale_register = \"b\";",
         "b: 'b' must be an integer without a scale of its own"},
        {"name = \"b\"; address = 4294967296; type = \"int16\";",
         "address must be from 0 to 65535, not 4294967296"},
        {"name = \"b\"; address = 0; type = \"int16\"; sentinels = [ 0x10000 ];",
         "b: the sentinel is wider than int16"},
        {"name = \"b\"; address = 0; type = \"int16\"; sentinels = [ -32769 ];",
         "b: the sentinel is wider than int16"},
        {"name = \"b\"; address = 0; type = \"uint16\"; bits = [0, 4]; sentinels = [ 16 ];",
         "b: the sentinel is wider than uint16 with these bits"},
        {"name = \"b\"; address = 0; type = \"string\"; registers = 1; sentinels = [ 0 ];",
         "b: a text has no sentinels"},
        {"name = \"b\"; address = 0; type = \"int16\"; labels = ( { value = 0x8000; label = \"x\"; "
         "} "
         ");",
         "b: no int16 holds the label's value 32768"},
        {"name = \"b\"; address = 0; type = \"uint16\"; labels = ( { value = -1; label = \"x\"; } "
         ");",
         "b: no uint16 holds the label's value -1"},
        {"name = \"b\"; address = 0; type = \"int16\"; access = \"rw\"; min = 0; max = 4294967296;",
         "b: a write limit does not fit int16 with this scale"},
        {"name = \"b\"; address = 0; type = \"int16\"; function = 5;",
         "function must be from 1 to 4, not 5"},
        {"name = \"b\"; address = 0; type = \"int16\"; function = 0;",
         "function must be from 1 to 4, not 0"},
        {"name = \"b\"; address = 0; type = \"int16\"; function = 1;",
         "b: function 1 reads bits, so its type must be bool"},
        {"name = \"b\"; address = 0; type = \"float32\"; function = 2;",
         "b: function 2 reads bits, so its type must be bool"},
        {"name = \"b\"; address = 0; type = \"bool\";",
         "b: a bool in a register needs bits = [first, 1]"},
        {"name = \"b\"; address = 0; type = \"bool\"; bits = [0, 2];",
         "a bool is one bit: [0, 1]\n"
         "test.cfg:3: b: a bool in a register needs bits = [first, 1]"},
        {"name = \"b\"; address = 0; type = \"uint16\"; bits = [15, 2];",
         "bits must lie within 0..15"},
        {"name = \"b\"; address = 0; type = \"uint16\"; bits = [16, 1];",
         "bits must lie within 0..15"},
        {"name = \"b\"; address = 0; type = \"uint16\"; bits = [-1, 1];",
         "bits must lie within 0..15"},
        {"name = \"b\"; address = 0; type = \"uint16\"; bits = [0, 0];",
         "bits must lie within 0..15"},
        {"name = \"b\"; address = 0; type = \"uint16\"; bits = [0];",
         "bits must be [first, count]"},
        {"name = \"b\"; address = 0; type = \"uint16\"; bits = 3;", "bits must be [first, count]"},
        {"name = \"b\"; address = 0; type = \"uint16\"; bits = [\"a\", \"b\"];",
         "bits must be [first, count]"},
        {"name = \"b\"; address = 0; type = \"uint16\"; bits = { x = 1; y = 2; };",
         "bits must be [first, count]"},
        {"name = \"b\"; address = 0; type = \"float32\"; bits = [0, 4];",
         "bits are taken from integer registers only"},
        {"name = \"b\"; address = 0; type = \"bool\"; function = 1; bits = [0, 1];",
         "bits are taken from integer registers only"},
        {"name = \"b\"; address = 0; type = \"int16\"; word_order = \"cdab\";",
         "b: \"cdab\" orders words, and this row is one register: \"badc\" swaps bytes"},
        {"name = \"b\"; address = 0; type = \"int32\"; word_order = \"dabc\";",
         "word_order must be \"abcd\", \"cdab\", \"badc\" or \"dcba\""},
        {"name = \"b\"; address = 0; type = \"int16\"; scale = 0;", "b: scale must not be 0"},
        {"name = \"b\"; address = 0; type = \"int16\"; scale = 0.0;", "b: scale must not be 0"},
        {"name = \"b\"; address = 0; type = \"int16\"; scale = 1e999;",
         "scale must be a finite number, not inf"},
        {"name = \"b\"; address = 0; type = \"int16\"; offset = -1e999;",
         "offset must be a finite number, not -inf"},
        {"name = \"b\"; address = 0; type = \"bool\"; bits = [0, 1]; scale = 2;",
         "b: a bool or an enumeration has no scale and offset"},
        {"name = \"b\"; address = 0; type = \"int16\"; enumerated = true; offset = 1;",
         "b: a bool or an enumeration has no scale and offset"},
        {"name = \"b\"; address = 0; type = \"float32\"; enumerated = true;",
         "b: only integers and bools can be enumerated"},
        {"name = \"b\"; address = 0; type = \"int16\"; unit = \"12345678901234567\";",
         "unit is longer than 16 bytes"},
        {"name = \"b\"; address = 0; type = \"int16\"; access = \"w\";",
         "access must be \"r\" or \"rw\""},
        {"name = \"b\"; address = 0; type = \"bool\"; function = 2; access = \"rw\";",
         "b: function 2 reads a table that cannot be written"},
        {"name = \"b\"; address = 0; type = \"int16\"; function = 4; access = \"rw\";",
         "b: function 4 reads a table that cannot be written"},
        {"name = \"b\"; address = 0; type = \"int16\"; bits = [0, 4]; access = \"rw\";",
         "b: a bit field cannot be written: its register may change in between"},
        {"name = \"b\"; address = 0; type = \"int16\"; min = 0;",
         "b has write limits but is read-only"},
        {"name = \"b\"; address = 0; type = \"int16\"; max = 0;",
         "b has write limits but is read-only"},
        {"name = \"b\"; address = 0; type = \"int16\"; access = \"rw\"; min = 6; max = 5;",
         "b: min 6 is above max 5"},
        {"name = \"b\"; address = 0; type = \"int16\"; access = \"rw\"; min = -32769;",
         "b: a write limit does not fit int16 with this scale"},
        {"name = \"b\"; address = 0; type = \"int16\"; access = \"rw\"; max = 32768;",
         "b: a write limit does not fit int16 with this scale"},
        {"name = \"b\"; address = 0; type = \"uint16\"; access = \"rw\"; scale = -1; max = 1;",
         "b: a write limit does not fit uint16 with this scale"},
        {"name = \"b\"; address = 0; type = \"int16\"; low = 6; high = 5;",
         "b: low 6 is above high 5"},
        {"name = \"b\"; address = 0; type = \"int16\"; low = \"x\";", "low must be a number"},
        {"name = \"b\"; address = 0; type = \"int16\"; counter = 1;",
         "counter must be true or false"},
        {"name = \"b\"; address = 0; type = \"int16\"; sentinels = 5;", NO_SENTINELS},
        {"name = \"b\"; address = 0; type = \"int16\"; sentinels = [ ];", NO_SENTINELS},
        {"name = \"b\"; address = 0; type = \"int16\"; sentinels = [ 1, 2, 3, 4, 5 ];",
         NO_SENTINELS},
        {"name = \"b\"; address = 0; type = \"int16\"; sentinels = ( 1, \"x\", 2 );",
         "a sentinel must be a whole number of at most 64 bits"},
        {"name = \"b\"; address = 0; type = \"int16\"; sentinels = [ 1.5 ];",
         "a sentinel must be a whole number of at most 64 bits"},
        {"name = \"b\"; address = 0; type = \"int16\"; every = 0;",
         "every must be from 1 to 255, not 0"},
        {"name = \"b\"; address = 0; type = \"int16\"; every = 256;",
         "every must be from 1 to 255, not 256"},
        {"name = \"b\"; address = 0; type = \"int16\"; labels = \"x\";",
         "labels must be a list: ( { value = 0; label = \"off\"; } )"},
        {"name = \"b\"; address = 0; type = \"int16\"; labels = ( 5 );",
         "this element must be a group: { key = value; ... }"},
        {"name = \"b\"; address = 0; type = \"int16\"; labels = ( { value = 1; } );",
         "missing key 'label'"},
        {"name = \"b\"; address = 0; type = \"int16\"; labels = ( { label = \"x\"; } );",
         "missing key 'value'"},
        {"name = \"b\"; address = 0; type = \"int16\";"
         " labels = ( { value = 1; label = \"123456789012345678901234567890123\"; } );",
         "label is longer than 32 bytes"},
        {"name = \"b\"; address = 0; type = \"int16\"; labels = ( { value = 1; label = \"\"; } );",
         "label must not be empty"},
        {"name = \"b\"; address = 0; type = \"int16\";"
         " labels = ( { value = 1; label = \"x\"; }, { value = 1; label = \"y\"; } );",
         "value 1 has a label already"},
        {"name = \"b\"; address = 0; type = \"int16\";"
         " labels = ( { value = 1; label = \"x\"; }, { value = 2; label = \"x\"; } );",
         "label 'x' stands for another value already"},
        {"name = \"b\"; address = 0; type = \"int16\"; enumerated = false;"
         " labels = ( { value = 1; label = \"x\"; } );",
         "b has labels but is not enumerated"},
        {"name = \"b\"; address = 100; type = \"int16\";",
         "b lies in the unreadable range 100..101"},
        {"name = \"b\"; address = 101; type = \"int16\";",
         "b lies in the unreadable range 100..101"},
        {"name = \"b\"; address = 99; type = \"int32\";",
         "b lies in the unreadable range 100..101"},
    };
    for (unsigned i = 0; i < COUNT(rows); i++) {
        char text[1024], said[1024];
        snprintf(
            text, sizeof text,
            "unreadable = ( { first = 100; last = 101; } );\n"
            "points = ( { name = \"first\"; address = 1; type = \"uint16\"; enumerated = true; },\n"
            "{ %s } );\n",
            rows[i].row);
        snprintf(said, sizeof said, "test.cfg:3: %s\n", rows[i].said);
        read_text(text, said);
    }
}

static void a_scale_is_read_with_what_it_scales(void **state)
{
    (void)state;
    struct profile *profile =
        read_text("sunspec_model = 203; unreadable = ( { first = 3; last = 3; } );\n"
                  "points = ( { name = \"v\"; address = 1; type = \"int16\"; scale_register = "
                  "\"sf\"; every = 6; },\n"
                  "{ name = \"sf\"; address = 2; type = \"int16\"; every = 9; },\n"
                  "{ name = \"w\"; address = 3; type = \"int32\"; scale_register = \"sf\"; every = "
                  "12; sunspec_model = 103; } );",
                  "");
    assert_int_equal(profile->points[0].scale_row, 2);
    assert_int_equal(profile->points[1].every, 3); /* due whenever one of them is */
    assert_int_equal(profile->points[2].scale_row, 2);
    assert_int_equal(profile->points[0].model, 203);
    assert_int_equal(profile->points[2].model, 103);
    assert_int_equal(profile->unreadable[0].model, 203);
    profile_free(profile);
}

static void a_type_is_made_of_16_models(void **state)
{
    char text[4096] = "points = (\n";
    (void)state;
    for (unsigned i = 1; i <= 17; i++) {
        const size_t length = strlen(text);
        if (i > 16) { /* one of a model that is there already is no more */
            strcpy(text + length, ", { name = \"again\"; address = 3; type = \"int16\"; "
                                  "sunspec_model = 7; } );");
            profile_free(read_text(text, ""));
        }
        snprintf(text + length, sizeof text - length,
                 "%s{ name = \"v%u\"; address = 2; type = \"int16\"; sunspec_model = %u; }",
                 i > 1 ? ", " : "", i, i);
    }
    strcat(text, " );");
    read_text(text, "test.cfg:1: the rows are of more than 16 SunSpec models\n");
}

/* A row with one mistake is looked at for others. */
static void a_bad_row_shows_all_its_mistakes(void **state)
{
    (void)state;
    read_text("points = ( { name = \"A\"; address = 1; type = \"int16\"; speed = 1; scale = 0;\n"
              " labels = ( { value = 70000; label = \"x\"; } ); sentinels = 5; },\n"
              "{ name = \"b\"; address = 1; type = \"int16\"; unit = 5; bits = 3; } );",
              "test.cfg:1: unknown key 'speed'\n"
              "test.cfg:2: A: no int16 holds the label's value 70000\n"
              "test.cfg:2: " NO_SENTINELS "\n"
              "test.cfg:1: 'A': a point's name is made of a-z, 0-9 and _\n"
              "test.cfg:1: A: scale must not be 0\n"
              "test.cfg:1: A: a bool or an enumeration has no scale and offset\n"
              "test.cfg:3: unit must be a text in quotes\n"
              "test.cfg:3: bits must be [first, count]\n");
}

static void points_beside_an_unreadable_range(void **state)
{
    (void)state;
    profile_free(read_text("unreadable = ( { first = 100; last = 101; } );\n"
                           "points = ( { name = \"a\"; address = 98; type = \"int32\"; },\n"
                           "{ name = \"b\"; address = 102; type = \"int16\"; },\n"
                           "{ name = \"c\"; address = 100; function = 4; type = \"int16\"; } );\n",
                           ""));
}

static void a_code_clashes_in_either_order(void **state)
{
    (void)state;
    read_text("points = ( { name = \"a_code\"; address = 0; type = \"int16\"; },\n"
              "{ name = \"a\"; address = 1; type = \"int16\"; enumerated = true; } );",
              "test.cfg:2: 'a_code' and 'a': an enumerated point is published as _code too\n");
    profile_free(read_text("points = ( { name = \"a_code\"; address = 0; type = \"int16\"; },\n"
                           "{ name = \"a\"; address = 1; type = \"int16\"; } );",
                           ""));
}

#define ONE_POINT "points = ( { name = \"a\"; address = 0; type = \"uint64\"; } );"

static void faulty_heads(void **state)
{
    (void)state;
    static const struct {
        const char *text, *said;
    } rows[] = {
        {"", "test.cfg:1: missing key 'points'\n"},
        {"points = 5;", "test.cfg:1: points must be a list of 1 to 256 groups\n"},
        {"points = ();", "test.cfg:1: points must be a list of 1 to 256 groups\n"},
        {"points = ( 5 );", "test.cfg:1: this element must be a group: { key = value; ... }\n"},
        {"\nvendor = \"x\"; " ONE_POINT, "test.cfg:2: unknown key 'vendor'\n"},
        {"function = 0; " ONE_POINT, "test.cfg:1: function must be from 1 to 4, not 0\n"},
        {"max_registers = 0; " ONE_POINT,
         "test.cfg:1: max_registers must be from 1 to 125, not 0\n"},
        {"max_registers = 126; " ONE_POINT,
         "test.cfg:1: max_registers must be from 1 to 125, not 126\n"},
        {"max_registers = 3;\n" ONE_POINT, "test.cfg:2: a is longer than max_registers\n"},
        {"max_gap = -1; " ONE_POINT, "test.cfg:1: max_gap must be from 0 to 125, not -1\n"},
        {"max_gap = 126; " ONE_POINT, "test.cfg:1: max_gap must be from 0 to 125, not 126\n"},
        {"word_order = \"ABCD\"; " ONE_POINT,
         "test.cfg:1: word_order must be \"abcd\", \"cdab\", \"badc\" or \"dcba\"\n"},
        {"unreadable = 5; " ONE_POINT,
         "test.cfg:1: unreadable must be a list of at most 32 groups\n"},
        {"unreadable = ( { first = 9; last = 8; } );\n" ONE_POINT,
         "test.cfg:1: first is above last\n"},
        {"unreadable = ( { first = 9; } );\n" ONE_POINT, "test.cfg:1: missing key 'last'\n"},
        {"unreadable = ( { first = 65536; last = 65536; } );\n" ONE_POINT,
         "test.cfg:1: first must be from 0 to 65535, not 65536\n"
         "test.cfg:1: last must be from 0 to 65535, not 65536\n"},
        {"unreadable = ( { function = 5; first = 1; last = 1; } );\n" ONE_POINT,
         "test.cfg:1: function must be from 1 to 4, not 5\n"},
        {"unreadable = ( { first = 9; last = 65536; } );\n" ONE_POINT,
         "test.cfg:1: last must be from 0 to 65535, not 65536\n"},
        {"points = (\n",
         "test.cfg:2: the end of the file comes before the ) that closes 'points' of test.cfg:1\n"},
    };
    for (unsigned i = 0; i < COUNT(rows); i++)
        read_text(rows[i].text, rows[i].said);
    profile_free(read_text("max_registers = 4;" ONE_POINT, ""));
}

/* `n` times a piece, with numbers, between a head and a tail. */
static char *repeat(const char *head, const char *format, unsigned n, const char *tail)
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    fputs(head, out);
    for (unsigned i = 0; i < n; i++) {
        fputs(i ? ", " : "", out);
        for (const char *at = format; *at; at++)
            *at == '#' ? fprintf(out, "%u", i) : fputc(*at, out);
    }
    fputs(tail, out);
    fclose(out);
    return text;
}

static void as_many_as_there_may_be(void **state)
{
    (void)state;
    static const struct {
        const char *head, *format, *tail, *said;
        unsigned most;
    } rows[] = {
        {"points = (", "{ name = \"p#\"; address = #; type = \"int16\"; }", ");",
         "test.cfg:1: points must be a list of 1 to 256 groups\n", PROFILE_POINTS_MAX},
        {"unreadable = (", "{ first = 9#; last = 9#; }", "); " ONE_POINT,
         "test.cfg:1: unreadable must be a list of at most 32 groups\n", PROFILE_RANGES_MAX},
        {"points = ( { name = \"a\"; address = 0; type = \"int16\"; labels = (",
         "{ value = #; label = \"l#\"; }", "); } );", "test.cfg:1: more than 256 labels\n",
         POINT_LABELS_MAX},
    };
    for (unsigned i = 0; i < COUNT(rows); i++) {
        char *text = repeat(rows[i].head, rows[i].format, rows[i].most, rows[i].tail);
        profile_free(read_text(text, ""));
        free(text);
        text = repeat(rows[i].head, rows[i].format, rows[i].most + 1, rows[i].tail);
        read_text(text, rows[i].said);
        free(text);
    }
}

static void one_run_shows_all_problems(void **state)
{
    (void)state;
    read_text("max_gap = 500;\n"
              "points = ( { name = \"A\"; address = 1; type = \"int16\"; },\n"
              "{ name = \"b\"; address = 1; type = \"int16\"; scale = 0; },\n"
              "{ name = \"c\"; address = 1; } );\n",
              "test.cfg:1: max_gap must be from 0 to 125, not 500\n"
              "test.cfg:2: 'A': a point's name is made of a-z, 0-9 and _\n"
              "test.cfg:3: b: scale must not be 0\n"
              "test.cfg:4: missing key 'type'\n");
}

/* ---- where profiles are found */

static void the_first_directory_wins(void **state)
{
    (void)state;
    static const char *const directories[] = {"none", "one", "two", NULL};
    assert_int_equal(system("mkdir -p one two"), 0);
    given_file("one/x.cfg", "model = \"one\"; " ONE_POINT);
    given_file("two/x.cfg", "model = \"two\"; " ONE_POINT);
    given_file("two/y.cfg", "model = \"two\"; " ONE_POINT);
    struct given given;
    given_cfg(&given);
    struct profile *x = profile_read(&given.cfg, NULL, directories, "x");
    struct profile *y = profile_read(&given.cfg, NULL, directories, "y");
    assert_null(profile_read(&given.cfg, NULL, directories, "z"));
    assert_null(profile_read(&given.cfg, NULL, directories, "../one/x"));
    assert_said(&given, "test.cfg:1: no profile for type 'z': z.cfg is not in none, one, two\n"
                        "test.cfg:1: type '../one/x' is not made of letters, digits, - and _\n");
    assert_string_equal(x->model, "one");
    assert_string_equal(x->type, "x");
    assert_string_equal(y->model, "two");
    profile_free(x);
    profile_free(y);
    profile_free(NULL);
}

static void the_directories_searched(void **state)
{
    (void)state;
    unsetenv("FLUXBRIDGE_PROFILES");
    const char *const *directories = profile_directories();
    assert_string_equal(directories[0], "/etc/fluxbridge/profiles");
    const char *last = directories[0];
    for (unsigned i = 0; directories[i]; i++)
        last = directories[i];
    assert_string_equal(last, FLUXBRIDGE_PROFILES);

    char self[512] = "";
    assert_true(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    bool built_here = strncmp(self, FLUXBRIDGE_BUILD_DIR "/", sizeof FLUXBRIDGE_BUILD_DIR) == 0;
    assert_int_equal(strcmp(directories[1], FLUXBRIDGE_SOURCE_PROFILES) == 0, built_here);

    setenv("FLUXBRIDGE_PROFILES", "/my/own", 1);
    directories = profile_directories();
    assert_string_equal(directories[0], "/my/own");
    assert_string_equal(directories[1], "/etc/fluxbridge/profiles");
    setenv("FLUXBRIDGE_PROFILES", "", 1);
    assert_string_equal(profile_directories()[0], "/etc/fluxbridge/profiles");
    unsetenv("FLUXBRIDGE_PROFILES");
}

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

static void compare(const struct profile *profile, struct golden *golden)
{
    for (unsigned i = 0; i < profile->n_points; i++) {
        const struct point *point = &profile->points[i];
        char text[CODEC_TEXT_MAX], code[CODEC_TEXT_MAX];
        for (unsigned k = 0; k < point_width(point); k++)
            assert_true(golden->given[table_in(point)][address_in(point) + k]);
        struct value value =
            codec_decode(point, &golden->words[table_in(point)][address_in(point)]);
        if (point->scale_row) {
            const struct point *row = &profile->points[point->scale_row - 1];
            struct value scale = codec_decode(row, &golden->words[table_in(row)][address_in(row)]);
            codec_rescale(point, &scale, &value);
        }
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
        cmocka_unit_test(defaults),
        cmocka_unit_test(every_key),
        cmocka_unit_test(limits_inside),
        cmocka_unit_test(faulty_rows),
        cmocka_unit_test(a_scale_is_read_with_what_it_scales),
        cmocka_unit_test(a_type_is_made_of_16_models),
        cmocka_unit_test(a_bad_row_shows_all_its_mistakes),
        cmocka_unit_test(points_beside_an_unreadable_range),
        cmocka_unit_test(a_code_clashes_in_either_order),
        cmocka_unit_test(faulty_heads),
        cmocka_unit_test(as_many_as_there_may_be),
        cmocka_unit_test(one_run_shows_all_problems),
        cmocka_unit_test(the_first_directory_wins),
        cmocka_unit_test(the_directories_searched),
        cmocka_unit_test(every_profile_matches_its_golden_file),
        cmocka_unit_test(the_documented_maps),
        cmocka_unit_test(the_readme_is_true),
    };
    return cmocka_run_group_tests_name("profile", tests, given_directory, remove_directory);
}
