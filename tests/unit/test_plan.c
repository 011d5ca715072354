#include "given.h"

#include "devices/registers/codec.h"
#include "devices/registers/plan.h"

/* A device of uint16 points, one register each unless a row says otherwise. */
struct site {
    struct point points[PROFILE_POINTS_MAX];
    struct profile profile;
    struct device device;
};

static void a_site(struct site *site)
{
    memset(site, 0, sizeof *site);
    site->profile.max_registers = 125;
    site->profile.max_gap = 60;
    site->device.profile = &site->profile;
    site->device.points = site->points;
}

static struct point *add(struct site *site, enum point_table table, unsigned address,
                         enum point_type type)
{
    struct point *point = &site->points[site->device.n_points++];
    *point = (struct point){
        .table = table, .address = (uint16_t)address, .type = type, .scale = 1, .every = 1};
    return point;
}

static void add_words(struct site *site, unsigned n, const unsigned *addresses)
{
    for (unsigned i = 0; i < n; i++)
        add(site, POINT_HOLDING, addresses[i], POINT_UINT16);
}
#define ADD(site, ...)                                                                             \
    add_words(site, sizeof(unsigned[]){__VA_ARGS__} / sizeof(unsigned),                            \
              (const unsigned[]){__VA_ARGS__})

/* The plan's blocks at a scan as "table:address+count(points) ...". */
static const char *blocks(const struct plan *plan, uint64_t scan)
{
    static char text[1024];
    struct plan_block block;
    unsigned next = 0;
    text[0] = '\0';
    while (plan_next(plan, next, scan, &block, &next)) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s%u:%u+%u(%u)", used ? " " : "",
                 (unsigned)block.table, block.address, block.count, block.n);
    }
    return text;
}

static void assert_blocks(const struct site *site, const char *expected)
{
    struct plan *plan = plan_new(&site->device, NULL);
    assert_non_null(plan);
    assert_string_equal(blocks(plan, 0), expected);
    plan_free(plan);
}

static void neighbours_share_a_block_in_order_of_address(void **state)
{
    (void)state;
    struct site site;
    a_site(&site);
    ADD(&site, 2028, 2000, 2026, 2008, 2010);
    assert_blocks(&site, "3:2000+29(5)");
}

static void a_gap_may_be_as_wide_as_max_gap(void **state)
{
    (void)state;
    struct site site;
    a_site(&site);
    ADD(&site, 0, 61);
    assert_blocks(&site, "3:0+62(2)");
    site.points[1].address = 62;
    assert_blocks(&site, "3:0+1(1) 3:62+1(1)");
    site.profile.max_gap = 0;
    site.points[1].address = 1;
    assert_blocks(&site, "3:0+2(2)");
    site.points[1].address = 2;
    assert_blocks(&site, "3:0+1(1) 3:2+1(1)");
}

static void a_block_may_be_as_long_as_max_registers(void **state)
{
    (void)state;
    struct site site;
    a_site(&site);
    site.profile.max_registers = 10;
    ADD(&site, 100);
    add(&site, POINT_HOLDING, 108, POINT_FLOAT32);
    assert_blocks(&site, "3:100+10(2)");
    site.points[1].address = 109;
    assert_blocks(&site, "3:100+1(1) 3:109+2(1)");
}

static void a_long_run_is_divided(void **state)
{
    (void)state;
    struct site site;
    a_site(&site);
    for (unsigned i = 0; i < PROFILE_ROWS_MAX; i++)
        add(&site, POINT_INPUT, i, POINT_UINT16);
    assert_blocks(&site, "4:0+125(125) 4:125+125(125) 4:250+6(6)");
}

static void the_last_register_can_be_read(void **state)
{
    (void)state;
    struct site site;
    a_site(&site);
    ADD(&site, 65535);
    add(&site, POINT_HOLDING, 65532, POINT_FLOAT32);
    assert_blocks(&site, "3:65532+4(2)");
}

static void tables_do_not_mix(void **state)
{
    (void)state;
    struct site site;
    a_site(&site);
    add(&site, POINT_INPUT, 1, POINT_INT16);
    add(&site, POINT_HOLDING, 2, POINT_INT16);
    add(&site, POINT_DISCRETE, 3, POINT_BOOL);
    add(&site, POINT_COIL, 4, POINT_BOOL);
    assert_blocks(&site, "1:4+1(1) 2:3+1(1) 3:2+1(1) 4:1+1(1)");
}

static void bits_have_limits_of_their_own(void **state)
{
    (void)state;
    struct site site;
    a_site(&site);
    site.profile.max_registers = 1;
    site.profile.max_gap = 125;
    add(&site, POINT_COIL, 0, POINT_BOOL);
    add(&site, POINT_COIL, 1999, POINT_BOOL);
    add(&site, POINT_COIL, 1000, POINT_BOOL);
    assert_blocks(&site, "1:0+2000(3)");
    site.points[1].address = 2000;
    assert_blocks(&site, "1:0+1001(2) 1:2000+1(1)");
    site.profile.max_gap = 1; /* 16 bits */
    site.points[1].address = 1017;
    assert_blocks(&site, "1:0+1(1) 1:1000+18(2)");
    site.points[1].address = 1018;
    assert_blocks(&site, "1:0+1(1) 1:1000+1(1) 1:1018+1(1)");
}

static void unreadable_registers_are_not_crossed(void **state)
{
    (void)state;
    struct site site;
    a_site(&site);
    ADD(&site, 10, 20);
    site.profile.n_unreadable = 1;
    static const struct {
        unsigned first, last;
        const char *blocks;
    } rows[] = {
        {11, 11, "3:10+1(1) 3:20+1(1)"},
        {19, 19, "3:10+1(1) 3:20+1(1)"},
        {0, 65535, "3:10+1(1) 3:20+1(1)"},
        {0, 10, "3:10+11(2)"},
        {20, 30, "3:10+11(2)"},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        site.profile.unreadable[0] = (struct profile_range){
            .table = POINT_HOLDING,
            .first = (uint16_t)rows[i].first,
            .last = (uint16_t)rows[i].last,
        };
        assert_blocks(&site, rows[i].blocks);
    }
    site.profile.unreadable[0] =
        (struct profile_range){.table = POINT_INPUT, .first = 11, .last = 19};
    assert_blocks(&site, "3:10+11(2)");
}

static void points_may_overlap(void **state)
{
    (void)state;
    struct site site;
    a_site(&site);
    add(&site, POINT_HOLDING, 5, POINT_UINT64);
    add(&site, POINT_HOLDING, 5, POINT_UINT16);
    add(&site, POINT_HOLDING, 6, POINT_UINT16);
    add(&site, POINT_HOLDING, 69, POINT_UINT16);
    assert_blocks(&site, "3:5+65(4)");
    site.points[3].address = 70;
    assert_blocks(&site, "3:5+4(3) 3:70+1(1)");
}

static void only_what_is_wanted_is_read(void **state)
{
    (void)state;
    struct site site;
    a_site(&site);
    ADD(&site, 2000, 2008, 2010, 2026, 2028);
    static const bool wanted[] = {true, false, false, true, false};
    struct plan *plan = plan_new(&site.device, wanted);
    assert_string_equal(blocks(plan, 0), "3:2000+27(2)");
    plan_free(plan);
    static const bool nothing[5] = {false};
    plan = plan_new(&site.device, nothing);
    assert_string_equal(blocks(plan, 0), "");
    plan_free(plan);
}

static void poll_classes(void **state)
{
    (void)state;
    struct site site;
    a_site(&site);
    ADD(&site, 0, 50, 100, 103);
    site.points[1].every = 2;
    site.points[3].every = 3;
    struct plan *plan = plan_new(&site.device, NULL);
    assert_string_equal(blocks(plan, 0), "3:0+104(4)");
    assert_string_equal(blocks(plan, 1), "3:0+1(1) 3:100+1(1)");
    assert_string_equal(blocks(plan, 2), "3:0+101(3)");
    assert_string_equal(blocks(plan, 3), "3:0+1(1) 3:100+4(2)");
    assert_string_equal(blocks(plan, 6), "3:0+104(4)");
    site.points[0].every = 2;
    assert_string_equal(blocks(plan, 1), "3:100+1(1)");
    plan_free(plan);
}

static void the_end_leaves_the_block_alone(void **state)
{
    (void)state;
    struct site site;
    a_site(&site);
    ADD(&site, 7);
    struct plan *plan = plan_new(&site.device, NULL);
    struct plan_block block;
    unsigned next = 99;
    assert_true(plan_next(plan, 0, 0, &block, &next));
    assert_int_equal(next, 1);
    next = 99;
    assert_false(plan_next(plan, 1, 0, &block, &next));
    assert_int_equal(next, 99);
    assert_int_equal(block.address, 7);
    plan_free(plan);
}

/* Cuts the block that holds `address` once. */
static bool cut(struct plan *plan, uint64_t scan, unsigned address, bool for_good)
{
    struct plan_block block;
    unsigned next = 0;
    while (plan_next(plan, next, scan, &block, &next))
        if (address >= block.address && address < (unsigned)block.address + block.count)
            return plan_cut(plan, &block, for_good);
    fail_msg("no block holds %u", address);
    return false;
}

static void a_cut_goes_through_the_widest_gap(void **state)
{
    (void)state;
    struct site site;
    a_site(&site);
    ADD(&site, 2000, 2008, 2010, 2026, 2028);
    struct plan *plan = plan_new(&site.device, NULL);
    assert_true(cut(plan, 0, 2000, true));
    assert_string_equal(blocks(plan, 0), "3:2000+11(3) 3:2026+3(2)");
    assert_true(cut(plan, 0, 2000, true));
    assert_string_equal(blocks(plan, 0), "3:2000+1(1) 3:2008+3(2) 3:2026+3(2)");
    assert_false(cut(plan, 0, 2000, true));
    assert_string_equal(blocks(plan, 0), "3:2000+1(1) 3:2008+3(2) 3:2026+3(2)");
    plan_free(plan);
}

static void equal_gaps_are_cut_in_the_middle(void **state)
{
    (void)state;
    struct site site;
    a_site(&site);
    ADD(&site, 0, 1, 2, 3, 4, 5);
    struct plan *plan = plan_new(&site.device, NULL);
    assert_true(cut(plan, 0, 5, true));
    assert_string_equal(blocks(plan, 0), "3:0+3(3) 3:3+3(3)");
    assert_true(cut(plan, 0, 5, true));
    assert_string_equal(blocks(plan, 0), "3:0+3(3) 3:3+1(1) 3:4+2(2)");
    plan_free(plan);
}

/* A device with one register that it refuses: cut until it stands alone. */
static void a_refused_register_ends_up_alone(void **state)
{
    (void)state;
    for (unsigned refused = 0; refused < 64; refused++) {
        struct site site;
        a_site(&site);
        for (unsigned i = 0; i < 64; i++)
            add(&site, POINT_HOLDING, 2 * i, POINT_FLOAT32);
        struct plan *plan = plan_new(&site.device, NULL);
        unsigned cuts = 0;
        while (cut(plan, 0, 2 * refused, true))
            cuts++;
        assert_true(cuts <= 7);
        struct plan_block block;
        unsigned next = 0, points = 0;
        while (plan_next(plan, next, 0, &block, &next)) {
            points += block.n;
            if (block.address == 2 * refused)
                assert_int_equal(block.n, 1);
        }
        assert_int_equal(points, 64);
        plan_free(plan);
    }
}

static void cuts_for_now_are_mended(void **state)
{
    (void)state;
    struct site site;
    a_site(&site);
    ADD(&site, 0, 10, 30);
    struct plan *plan = plan_new(&site.device, NULL);
    assert_true(cut(plan, 0, 0, true));
    assert_true(cut(plan, 0, 0, false));
    assert_string_equal(blocks(plan, 0), "3:0+1(1) 3:10+1(1) 3:30+1(1)");
    struct value values[3] = {{.state = VALUE_READ}, {.state = VALUE_READ}, {.state = VALUE_READ}};
    values[1] = (struct value){.state = VALUE_FAULT, .fault = FAULT_DEVICE_FAILURE};
    plan_end(plan, values, true, 0);
    assert_string_equal(blocks(plan, 0), "3:0+1(1) 3:10+1(1) 3:30+1(1)");
    values[1] = (struct value){.state = VALUE_READ};
    plan_end(plan, values, true, 0); /* the first cut did not help: it was doubted */
    assert_string_equal(blocks(plan, 0), "3:0+31(3)");
    assert_true(cut(plan, 0, 0, true));
    plan_end(plan, values, true, 0); /* this one did */
    assert_string_equal(blocks(plan, 0), "3:0+11(2) 3:30+1(1)");
    plan_free(plan);
}

/* A cut found while some points were not due holds when they are. */
static void a_cut_stays_between_its_points(void **state)
{
    (void)state;
    struct site site;
    a_site(&site);
    ADD(&site, 0, 10, 20);
    site.points[1].every = 2;
    struct plan *plan = plan_new(&site.device, NULL);
    assert_true(cut(plan, 1, 0, true));
    assert_string_equal(blocks(plan, 1), "3:0+1(1) 3:20+1(1)");
    assert_string_equal(blocks(plan, 2), "3:0+11(2) 3:20+1(1)");
    assert_false(cut(plan, 1, 0, true));
    plan_free(plan);

    site.points[2].every = 2; /* now the cut lies before a point that is not due */
    ADD(&site, 30);
    plan = plan_new(&site.device, NULL);
    assert_true(cut(plan, 0, 0, true));
    assert_string_equal(blocks(plan, 0), "3:0+11(2) 3:20+11(2)");
    assert_string_equal(blocks(plan, 1), "3:0+1(1) 3:30+1(1)");
    plan_free(plan);
}

static void blocks_are_decoded_to_the_points_places(void **state)
{
    (void)state;
    struct site site;
    a_site(&site);
    ADD(&site, 12, 10);
    add(&site, POINT_HOLDING, 13, POINT_UINT32);
    site.points[0].every = 2;
    struct plan *plan = plan_new(&site.device, NULL);
    struct plan_block block;
    struct value values[3] = {{.state = VALUE_ABSENT}, {.state = VALUE_ABSENT}};
    unsigned next;
    static const uint16_t words[] = {1, 2, 3, 4, 5};

    assert_true(plan_next(plan, 0, 1, &block, &next));
    assert_int_equal(block.count, 5);
    assert_int_equal(block.n, 2);
    plan_decode(plan, &block, words, values);
    assert_int_equal(values[0].state, VALUE_ABSENT); /* not due */
    assert_int_equal(values[1].raw, 1);
    assert_int_equal(values[2].raw, 0x40005);

    assert_true(plan_next(plan, 0, 2, &block, &next));
    plan_decode(plan, &block, words, values);
    assert_int_equal(values[0].state, VALUE_READ);
    assert_int_equal(values[0].raw, 3);
    plan_free(plan);
}

static void a_failed_block_fails_its_due_points(void **state)
{
    (void)state;
    struct site site;
    a_site(&site);
    ADD(&site, 10, 11, 12, 500);
    site.points[1].every = 2;
    struct plan *plan = plan_new(&site.device, NULL);
    struct plan_block block;
    struct value values[4] = {{.state = VALUE_ABSENT}};
    values[3].state = VALUE_READ;
    unsigned next;
    assert_true(plan_next(plan, 0, 1, &block, &next));
    plan_fail(plan, &block, FAULT_BUSY, values);
    assert_int_equal(values[0].state, VALUE_FAULT);
    assert_int_equal(values[0].fault, FAULT_BUSY);
    assert_int_equal(values[1].state, VALUE_ABSENT);
    assert_int_equal(values[2].state, VALUE_FAULT);
    assert_int_equal(values[3].state, VALUE_READ);
    plan_free(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours_share_a_block_in_order_of_address),
        cmocka_unit_test(a_gap_may_be_as_wide_as_max_gap),
        cmocka_unit_test(a_block_may_be_as_long_as_max_registers),
        cmocka_unit_test(a_long_run_is_divided),
        cmocka_unit_test(the_last_register_can_be_read),
        cmocka_unit_test(tables_do_not_mix),
        cmocka_unit_test(bits_have_limits_of_their_own),
        cmocka_unit_test(unreadable_registers_are_not_crossed),
        cmocka_unit_test(points_may_overlap),
        cmocka_unit_test(only_what_is_wanted_is_read),
        cmocka_unit_test(poll_classes),
        cmocka_unit_test(the_end_leaves_the_block_alone),
        cmocka_unit_test(a_cut_goes_through_the_widest_gap),
        cmocka_unit_test(equal_gaps_are_cut_in_the_middle),
        cmocka_unit_test(a_refused_register_ends_up_alone),
        cmocka_unit_test(cuts_for_now_are_mended),
        cmocka_unit_test(a_cut_stays_between_its_points),
        cmocka_unit_test(blocks_are_decoded_to_the_points_places),
        cmocka_unit_test(a_failed_block_fails_its_due_points),
    };
    return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
