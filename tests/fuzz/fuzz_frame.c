/* Bytes from a line, as they come one after the other: what is taken for an answer is one, is
 * the same however many have come behind it, and says what it said when it is written anew.
 * The other way round, the same bytes as what is to be written. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "devices/lines/frame.h"

enum { FRAMINGS = 3, BYTES_MAX = 2 * FRAME_MAX };

static void check(bool good)
{
    if (!good)
        abort();
}

static bool is_same(const struct frame *a, const struct frame *b)
{
    return a->id == b->id && a->unit == b->unit && a->size == b->size &&
           memcmp(a->pdu, b->pdu, a->size) == 0;
}

/* What is written of it is read as it was, and nothing is left over. */
static void check_written(enum device_framing framing, const struct frame *frame)
{
    uint8_t bytes[FRAME_MAX];
    struct frame again = {0};
    size_t used = 0;
    const char *why = NULL;
    const size_t size = frame_put(framing, frame, bytes);
    check(size <= FRAME_MAX);
    check(frame_take(framing, bytes, size - 1, &used, &again, &why) == FRAME_PART);
    check(frame_take(framing, bytes, size, &used, &again, &why) == FRAME_WHOLE);
    check(used == size && is_same(frame, &again));
}

static void check_taken(enum device_framing framing, const uint8_t *bytes, size_t size)
{
    struct frame first = {0};
    size_t first_used = 0;
    bool is_whole = false;
    for (size_t n = 0; n <= size; n++) {
        struct frame frame = {0};
        size_t used = 0;
        const char *why = NULL;
        const enum frame_state state = frame_take(framing, bytes, n, &used, &frame, &why);
        check(used <= n && (state != FRAME_BROKEN || why != NULL));
        check(!is_whole || (state == FRAME_WHOLE && used == first_used && is_same(&frame, &first)));
        if (state != FRAME_WHOLE || is_whole)
            continue;
        check(used == n && frame.size >= 1 && frame.size <= LINK_PDU_MAX);
        check_written(framing, &frame);
        first = frame;
        first_used = used;
        is_whole = true;
    }
}

/* An exception: what the framings have in common. */
static void check_put(enum device_framing framing, const uint8_t *bytes, size_t size)
{
    struct frame frame = {.unit = 1, .size = 2, .pdu = {0x83, 2}};
    if (size < 5)
        return;
    frame.id = framing == DEVICE_TCP ? link_get16(bytes) : 0;
    frame.unit = framing == DEVICE_RTU ? (uint8_t)(1 + bytes[2] % 247) : bytes[2];
    if (framing != DEVICE_RTU)
        frame.size = 2 + bytes[3] % (LINK_PDU_MAX - 1);
    for (size_t i = 0; framing != DEVICE_RTU && i < frame.size; i++)
        frame.pdu[i] = bytes[4 + i % (size - 4)];
    check_written(framing, &frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const enum device_framing framing = (enum device_framing)(*data % FRAMINGS);
    size = size - 1 < BYTES_MAX ? size - 1 : BYTES_MAX;
    uint8_t *bytes = malloc(size); /* so that what lies behind is noticed */
    check(bytes != NULL || size == 0);
    if (size > 0)
        memcpy(bytes, data + 1, size);
    check_taken(framing, bytes, size);
    check_put(framing, bytes, size);
    free(bytes);
    return 0;
}
