#include "bridge/wire/json_text.h"

#include <math.h>
#include <string.h>

#include "devices/registers/codec.h"

json_t *json_text_number(double value)
{
    char text[CODEC_TEXT_MAX];
    size_t size = codec_print_number(value, text);
    return json_loadb(text, size, JSON_DECODE_ANY, NULL);
}

json_t *json_text_or_null(const char *text)
{
    size_t size = strlen(text);
    json_t *string = json_stringn(text, size);
    for (int cut = 0; string == NULL && cut < 3 && size > 0; cut++)
        string = json_stringn(text, --size);
    return string != NULL ? string : json_null();
}

/* jansson has made sure that it is UTF-8. */
bool json_text_read(const json_t *value, char text[COMMAND_TEXT_BYTES + 1])
{
    const char *from = json_string_value(value);
    size_t size = json_string_length(value);
    unsigned characters = 0;
    if (from == NULL)
        return false;
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)from[i];
        if (byte < 0x20 || byte == 0x7f || (byte == 0xc2 && (unsigned char)from[i + 1] < 0xa0))
            return false;
        characters += (byte & 0xc0) != 0x80;
    }
    if (characters == 0 || characters > COMMAND_TEXT_MAX)
        return false;
    memcpy(text, from, size + 1);
    return true;
}

bool json_text_read_time(const json_t *value, int64_t *ms)
{
    const double most_ms = 9e12; /* the year 2255 */
    const double number = json_number_value(value);
    if (!json_is_number(value) || !(number >= 0.0 && number <= most_ms) || trunc(number) != number)
        return false;
    *ms = (int64_t)number;
    return true;
}

char *json_text_dump(json_t *root)
{
    char *text = root != NULL ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(root);
    return text;
}
