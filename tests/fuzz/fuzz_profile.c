/* Any file as a profile: it is refused with at least one message, or its rows
 * can be planned, read and printed. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/lines/link.h"
#include "devices/registers/codec.h"
#include "devices/registers/plan.h"
#include "memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
    if (!good)
        abort();
}

/* Answers the walk along SunSpec's chain: each model that a row wants, once, 500 long.
 * More than fit, the last are not found. */
static void find_models(struct plan *plan, const struct profile *profile)
{
    uint16_t answer[2] = {0x5375, 0x6e53}, given[PROFILE_POINTS_MAX];
    unsigned n = 0, row = 0, asked = 0;
    struct plan_block block;
    while (plan_ask_models(plan, &block)) {
        check(block.count == 2 && ++asked < 200);
        memcpy(plan_words(plan), answer, sizeof answer);
        plan_take_models(plan, true);
        answer[0] = 0xffff;
        answer[1] = 0;
        for (; row < profile->n_points && answer[0] == 0xffff; row++) {
            const uint16_t model = profile->points[row].model;
            bool fresh = model != 0;
            for (unsigned i = 0; i < n; i++)
                fresh = fresh && given[i] != model;
            if (!fresh)
                continue;
            given[n++] = answer[0] = model;
            answer[1] = 500;
        }
    }
}

/* Reads every block of a device whose registers are all 0xffff. */
static void read_all(struct profile *profile)
{
    static uint16_t words[LINK_READ_BITS_MAX];
    struct value values[PROFILE_POINTS_MAX] = {0};
    struct device device = {
        .profile = profile, .points = profile->points, .n_points = profile->n_points};
    memset(words, 0xff, sizeof words);
    struct plan *plan = plan_new(&device, NULL);
    check(plan);
    find_models(plan, profile);
    struct plan_block block;
    unsigned next = 0, points = 0, made = 0;
    while (plan_next(plan, next, 0, &block, &next)) {
        bool bits = block.table == POINT_COIL || block.table == POINT_DISCRETE;
        check(block.count >= 1 && block.address + block.count <= 65536);
        check(block.count <= (bits ? LINK_READ_BITS_MAX : profile->max_registers));
        plan_decode(plan, &block, words, values);
        points += block.n;
    }
    points += plan_fail_missing(plan, 0, FAULT_ILLEGAL_ADDRESS, values);
    for (unsigned i = 0; i < profile->n_points; i++)
        made += profile->points[i].made;
    check(points + made == profile->n_points);
    plan_end(plan, values, true, 0);
    drive_make(&profile->drive, profile->points, values);
    for (unsigned i = 0; i < profile->n_points; i++) {
        char text[CODEC_TEXT_MAX];
        check(values[i].state != VALUE_ABSENT);
        if (values[i].state == VALUE_READ)
            check(codec_print(&profile->points[i], &values[i], text) == strlen(text));
    }
    plan_free(plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[MEMORY_FILE_PATH];
    int file = memory_file(data, size, path);
    if (file == -1)
        return 0;
    char *said = NULL;
    size_t length = 0;
    struct cfg cfg = {.file = path, .out = open_memstream(&said, &length)};
    check(cfg.out);
    struct profile *profile = profile_read_file(&cfg, path, "fuzz");
    fclose(cfg.out);
    check((profile == NULL) == (cfg.problems > 0) && (profile == NULL) == (length > 0));
    if (profile)
        read_all(profile);
    profile_free(profile);
    free(said);
    close(file);
    return 0;
}
