#include "bridge/wire/json_text.h"

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

char *json_text_dump(json_t *root)
{
    char *text = root != NULL ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(root);
    return text;
}
