/* Any bytes as what a spool file holds: layouts and rows. Whatever they are, a row
 * is a sample that can be printed, or it makes no sense and is told as such.
 *
 * Two bytes are the length of a layout; it follows, and then a row of it. With a
 * first byte of 0xff the rest is the whole file; with 0xfe it is what happens to a
 * spool (spool_life.h), which a model tells what should be in it.
 */
#include <fcntl.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bridge/base/log.h"
#include "bridge/wire/sample_json.h"
#include "spool_life.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is published of it is one line of printable text. */
static void check_text(const struct layout *layout, const void *packed, size_t size)
{
    static char text[SPOOL_SAMPLE_MAX];
    const size_t length = sample_json_of_packed(layout, packed, size, text, sizeof text);
    for (size_t i = 0; i < length; i++)
        check((unsigned char)text[i] >= ' ');
    check(length == 0 || (text[0] == '{' && text[length - 1] == '}'));
}

static void try_parts(struct layouts *layouts, const uint8_t *data, size_t size)
{
    const size_t head = size < 2 ? size : (size_t)(data[0] << 8 | data[1]) % (size - 1);
    if (size < 2)
        return;
    const struct layout *layout =
        layouts_unpack(layouts, data + 2, head > size - 2 ? size - 2 : head);
    if (layout == NULL)
        return;
    /* What was taken apart can be put together again, and is the same. */
    static unsigned char packed[LAYOUTS_PACKED_MAX];
    const size_t length = layouts_pack(layout, packed, sizeof packed);
    check(length > 0 && layouts_unpack(layouts, packed, length) == layout);
    if (!layout->is_text) /* a text is looked at by the spool, which hands it on as it is */
        check_text(layout, data + 2 + head, size - 2 - head);
}

static bool see(void *context, const struct spool_sample *sample)
{
    unsigned *n = context;
    check(sample->size <= (4 << 20));
    if (sample->layout != NULL)
        check_text(sample->layout, sample->bytes, sample->size);
    return ++*n < 1000;
}

static void lose(void *context, int64_t row)
{
    (void)context, (void)row;
}

static void try_file(struct layouts *layouts, const uint8_t *data, size_t size)
{
    char path[SPOOL_LIFE_PATH], why[256];
    uint64_t lost;
    unsigned n = 0;
    spool_life_begin(path);
    int file = open(path, O_WRONLY | O_CREAT, 0600);
    check(file >= 0 && write(file, data, size) == (ssize_t)size);
    close(file);
    struct spool *spool;
    (void)spool_open(&(struct spool_setup){.path = path, .max_bytes = 1 << 20, .layouts = layouts},
                     &spool, &lost, why);
    if (spool != NULL) {
        (void)spool_read(spool, 0, 1000, see, &n);
        if (spool_is_damaged(spool))
            (void)spool_renew(spool, lose, NULL);
        spool_close(spool);
    }
    spool_life_end(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct layouts *layouts = layouts_new();
    check(layouts != NULL);
    log_set_level(LOG_LEVEL_ERROR);
    if (size > 0 && data[0] == 0xff)
        try_file(layouts, data + 1, size - 1);
    else if (size > 0 && data[0] == 0xfe)
        spool_live(layouts, data + 1, size - 1);
    else
        try_parts(layouts, data, size);
    layouts_free(layouts);
    return 0;
}
