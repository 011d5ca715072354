/* latest: the last sample of each device, whole. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/telemetry/latest.h"

enum { POINTS = 8, SAMPLES = 20000 };

static struct point points[POINTS];
static struct device devices[2] = {{.n_points = POINTS, .points = points},
                                   {.n_points = 1, .points = points}};
static const struct device_list list = {.n_devices = 2, .devices = devices};
static const struct layout layout = {.device = "a", .n_points = POINTS, .points = points};

static void put(struct latest *latest, uint64_t number)
{
    struct value values[POINTS];
    unsigned char packed[SAMPLE_PACKED_MAX];
    for (unsigned i = 0; i < POINTS; i++)
        values[i] = (struct value){.state = VALUE_READ, .number = (double)number, .raw = number};
    const struct sample sample = {.layout = &layout, .seq = number, .values = values};
    latest_put(latest, 0, (int64_t)number, &sample, packed,
               sample_pack(&sample, packed, sizeof packed));
}

static void test_the_last_is_there(void **state)
{
    (void)state;
    struct value values[POINTS];
    struct sample sample = {.seq = 99};
    int64_t taken_ns = 99;
    struct latest *latest = latest_new(&list);
    assert_non_null(latest);
    assert_false(latest_get(latest, 0, &sample, values, &taken_ns));
    assert_true(sample.seq == 99 && taken_ns == 99);
    put(latest, 1);
    put(latest, 2);
    assert_true(latest_get(latest, 0, &sample, values, &taken_ns));
    assert_int_equal(sample.seq, 2);
    assert_int_equal(taken_ns, 2);
    assert_ptr_equal(sample.values, values);
    assert_ptr_equal(sample.layout, &layout);
    assert_int_equal(values[POINTS - 1].raw, 2);
    assert_false(latest_get(latest, 1, &sample, values, &taken_ns));
    latest_free(latest);
}

static void *put_many(void *latest)
{
    for (uint64_t i = 1; i <= SAMPLES; i++)
        put(latest, i);
    return NULL;
}

/* Never half of one and half of the next. */
static void test_whoever_asks_gets_a_whole_one(void **state)
{
    (void)state;
    struct value values[POINTS];
    struct sample sample = {.seq = 0};
    int64_t taken_ns;
    pthread_t thread;
    struct latest *latest = latest_new(&list);
    assert_int_equal(pthread_create(&thread, NULL, put_many, latest), 0);
    while (sample.seq < SAMPLES) {
        if (!latest_get(latest, 0, &sample, values, &taken_ns))
            continue;
        for (unsigned i = 0; i < POINTS; i++)
            assert_true(values[i].raw == sample.seq);
    }
    pthread_join(thread, NULL);
    latest_free(latest);
}

static void test_another_device(void **state)
{
    (void)state;
    static const struct device larger = {.n_points = POINTS, .points = points};
    struct value values[POINTS];
    struct sample sample;
    int64_t taken_ns;
    struct latest *latest = latest_new(&list);
    put(latest, 7);
    assert_true(latest_renew(latest, 0, &(struct device){.n_points = 0}, 0));
    assert_false(latest_get(latest, 0, &sample, values, &taken_ns));
    assert_int_equal(latest_seq(latest, 0), 0);
    assert_true(latest_renew(latest, 0, &larger, 7));
    assert_int_equal(latest_seq(latest, 0), 7);
    put(latest, 8);
    assert_true(latest_get(latest, 0, &sample, values, &taken_ns));
    assert_int_equal(sample.seq, 8);
    latest_free(latest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_last_is_there),
        cmocka_unit_test(test_another_device),
        cmocka_unit_test(test_whoever_asks_gets_a_whole_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
