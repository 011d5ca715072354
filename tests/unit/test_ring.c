#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <sys/mman.h>

#include <cmocka.h>

#include "bridge/base/ring.h"

static void test_empty(void **state)
{
    (void)state;
    struct ring *ring = ring_new(1000);
    assert_non_null(ring);
    assert_null(ring_front(ring));
    assert_null(ring_push(ring, 2000));
    assert_null(ring_push(ring, SIZE_MAX));
    ring_free(ring);
    ring_free(NULL);
}

static void test_first_in_first_out(void **state)
{
    (void)state;
    struct ring *ring = ring_new(4096);
    const char *words[] = {"a", "", "a somewhat longer record", "d"};
    for (size_t i = 0; i < 4; i++) {
        char *record = ring_push(ring, strlen(words[i]) + 1);
        assert_non_null(record);
        assert_int_equal((uintptr_t)record % _Alignof(max_align_t), 0);
        strcpy(record, words[i]);
    }
    const char *record = ring_front(ring);
    for (size_t i = 0; i < 4; i++, record = ring_after(ring, record))
        assert_string_equal(record, words[i]);
    assert_null(record);
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(ring_front(ring), words[i]);
        ring_pop(ring);
    }
    assert_null(ring_front(ring));
    ring_free(ring);
}

/* A queue that keeps running empty stays on its first page. */
static void test_begins_anew_whenever_it_is_empty(void **state)
{
    (void)state;
    struct ring *ring = ring_new(1 << 20);
    void *first = ring_push(ring, 100);
    ring_pop(ring);
    for (int i = 0; i < 100; i++) {
        assert_ptr_equal(ring_push(ring, 100), first);
        ring_pop(ring);
    }
    ring_free(ring);
}

static void test_a_record_as_large_as_the_whole_fits_when_empty_only(void **state)
{
    (void)state;
    struct ring *ring = ring_new(1024);
    assert_non_null(ring_push(ring, 1));
    assert_null(ring_push(ring, 1000));
    ring_pop(ring);
    assert_non_null(ring_push(ring, 1000));
    assert_null(ring_push(ring, 0));
    ring_free(ring);
}

/* Random pushes and pops against a plain array of what must be inside. */
static void test_against_a_model(void **state)
{
    (void)state;
    enum { RECORDS = 20000, SIZE_MAX_USED = 300 };
    struct ring *ring = ring_new(2048);
    static size_t sizes[RECORDS];
    unsigned front = 0, end = 0, refused = 0;
    srand(1);
    while (end < RECORDS) {
        size_t size = (size_t)rand() % SIZE_MAX_USED;
        unsigned char *record = rand() % 100 < 55 ? ring_push(ring, size) : NULL;
        if (record != NULL) {
            memset(record, (int)(end & 0xff), size);
            sizes[end++] = size;
        } else if (front < end) {
            refused++;
            ring_pop(ring);
            front++;
        }
        const unsigned char *at = ring_front(ring);
        for (unsigned i = front; i < end; i++, at = ring_after(ring, at)) {
            assert_non_null(at);
            for (size_t j = 0; j < sizes[i]; j++)
                assert_int_equal(at[j], i & 0xff);
        }
        assert_null(at);
    }
    assert_true(refused > 100);
    while (front++ < end)
        ring_pop(ring);
    ring_free(ring);
}

/* Whatever its order of sizes, the arena is used up to its last record's worth. */
static void test_no_room_is_wasted(void **state)
{
    (void)state;
    struct ring *ring = ring_new(16 * 64);
    for (int i = 0; i < 16; i++)
        assert_non_null(ring_push(ring, 48));
    assert_null(ring_push(ring, 0));
    for (int i = 0; i < 40; i++) {
        ring_pop(ring);
        assert_non_null(ring_push(ring, 48));
        assert_null(ring_push(ring, 0));
    }
    ring_free(ring);
}

/* One that is never quite empty gives back what it used. */
static void test_it_stays_small(void **state)
{
    (void)state;
    enum { BYTES = 8 << 20, PAGE = 4096, PAGES = BYTES / PAGE };
    static unsigned char resident[PAGES];
    struct ring *ring = ring_new(BYTES);
    unsigned char *arena = ring_push(ring, 1000);
    uintptr_t base = (uintptr_t)arena / PAGE * PAGE;
    unsigned n = 0;
    for (int i = 0; i < 100000; i++) {
        unsigned char *record = ring_push(ring, 1000);
        assert_non_null(record);
        memset(record, i & 0xff, 1000);
        if (i > 0) {
            record = ring_front(ring);
            assert_true(i == 1 || record[999] == ((i - 2) & 0xff));
            ring_pop(ring);
        }
    }
    assert_int_equal(mincore((void *)base, BYTES, resident), 0);
    for (int i = 0; i < PAGES; i++)
        n += resident[i] & 1;
    assert_in_range(n, 1, 3 * (256 << 10) / PAGE);
    ring_free(ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_first_in_first_out),
        cmocka_unit_test(test_begins_anew_whenever_it_is_empty),
        cmocka_unit_test(test_a_record_as_large_as_the_whole_fits_when_empty_only),
        cmocka_unit_test(test_against_a_model),
        cmocka_unit_test(test_no_room_is_wasted),
        cmocka_unit_test(test_it_stays_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
