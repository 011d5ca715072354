#include "profile_bed.h"

#include <inttypes.h>
#include <math.h>

#include "devices/registers/codec.h"

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
        "address = 0; type = \"uint16\"; scale = 0.1; offset = -40; low = -40; high = 6513.5;",
        "address = 0; type = \"int16\"; enumerated = true; low = 0; high = 3;",
        "address = 0; type = \"float32\"; low = -1e30; high = 1e30;",
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
        "address = 0; type = \"4q_fp_pf\"; sentinels = [ 0x40000000 ]; low = -1; high = 1;",
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
         "\"uint48\", \"bcd16\", \"bcd32\", \"m10k32\", \"m10k48\", \"m10k64\", \"4q_fp_pf\" or "
         "\"string\""},
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
        {"name = \"b\"; address = 0; type = \"4q_fp_pf\"; access = \"rw\";",
         "b: 4q_fp_pf cannot be written"},
        {"name = \"b\"; address = 0; type = \"4q_fp_pf\"; enumerated = true;",
         "b: only integers and bools can be enumerated"},
        {"name = \"b\"; address = 0; type = \"4q_fp_pf\"; bits = [0, 4];",
         "bits are taken from integer registers only"},
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
        {"name = \"b\"; address = 0; type = \"uint16\"; scale = 0.1; high = 6554;",
         "b: high 6554 is more than uint16 holds with this scale"},
        {"name = \"b\"; address = 0; type = \"uint16\"; low = -1;",
         "b: low -1 is more than uint16 holds with this scale"},
        {"name = \"b\"; address = 0; type = \"uint16\"; bits = [0, 4]; high = 16;",
         "b: high 16 is more than uint16 holds with this scale"},
        {"name = \"b\"; address = 0; type = \"bool\"; function = 1; high = 1;",
         "b: a bool has no high"},
        {"name = \"b\"; address = 0; type = \"bool\"; function = 1; unit = \"V\";",
         "b: a bool has no unit"},
        {"name = \"b\"; address = 0; type = \"bool\"; function = 1; counter = true;",
         "b: a bool has no counter"},
        {"name = \"b\"; address = 0; type = \"int16\"; enumerated = true; counter = true;",
         "b: an enumeration has no counter"},
        {"name = \"b\"; address = 0; type = \"int16\"; enumerated = true; unit = \"V\";",
         "b: an enumeration has no unit"},
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

/* A row with one mistake is looked at for others. */
static void a_bad_row_shows_all_its_mistakes(void **state)
{
    (void)state;
    read_text(
        "points = ( { name = \"A\"; address = 1; type = \"int16\"; speed = 1; scale = 0;\n"
        " labels = ( { value = 70000; label = \"x\"; } ); sentinels = 5; },\n"
        "{ name = \"b\"; address = 1; type = \"int16\"; unit = 5; bits = 3; },\n"
        "{ name = \"C\"; address = 70000; type = \"int16\"; scale = 0; low = 6; high = 5; },\n"
        "{ address = 1; type = \"int16\"; scale = 0; } );",
        "test.cfg:1: unknown key 'speed'\n"
        "test.cfg:1: 'A': a point's name is made of a-z, 0-9 and _\n"
        "test.cfg:1: A: scale must not be 0\n"
        "test.cfg:2: A: no int16 holds the label's value 70000\n"
        "test.cfg:2: " NO_SENTINELS "\n"
        "test.cfg:1: A: a bool or an enumeration has no scale and offset\n"
        "test.cfg:3: unit must be a text in quotes\n"
        "test.cfg:3: bits must be [first, count]\n"
        "test.cfg:4: address must be from 0 to 65535, not 70000\n"
        "test.cfg:4: 'C': a point's name is made of a-z, 0-9 and _\n"
        "test.cfg:4: C: scale must not be 0\n"
        "test.cfg:4: C: low 6 is above high 5\n"
        "test.cfg:5: missing key 'name'\n"
        "test.cfg:5: a point: scale must not be 0\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(every_key),
        cmocka_unit_test(limits_inside),
        cmocka_unit_test(faulty_rows),
        cmocka_unit_test(a_bad_row_shows_all_its_mistakes),
    };
    return cmocka_run_group_tests_name("row", tests, given_directory, remove_directory);
}
