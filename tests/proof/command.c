/* Bounds: one member of a command, known or not, a number or a text of up to 4 bytes of
 * UTF-8. The JSON reader is not looked at (jansson's part, and the fuzzer's).
 *
 * - No byte is read or written where there is none.
 * - An id and a source that are taken are printable; a time and a life may be computed
 *   with. What is not taken has a detail.
 */
#include <stdio.h>

#include "tests/proof/include/jansson.h"

#define snprintf(text, size, ...) ((void)(size), (text)[0] = 'x', (text)[1] = '\0', 1)
#include "bridge/wire/json_text.c"

#include "bridge/wire/command_json.c"

json_t *json_loadb(const char *payload, size_t size, size_t flags, json_error_t *error)
{
    (void)payload;
    (void)size;
    (void)flags;
    (void)error;
    return NULL;
}

static void any_member(json_t *member)
{
    member->kind = nondet_bool() ? JSON_A_TEXT : JSON_A_NUMBER;
    member->number = nondet_double();
    assume(member->number - member->number == 0); /* JSON has no others */
    member->length = nondet_unsigned() % TEXT_BYTES;
    for (unsigned i = 0; i < TEXT_BYTES; i++)
        member->text[i] = nondet_char();
    member->text[member->length] = '\0';
    /* Whole characters: the last byte leads none, the first continues none. */
    assume(member->length == 0 ||
           ((member->text[member->length - 1] & 0xc0) != 0xc0 && (member->text[0] & 0xc0) != 0x80));
}

static bool is_printable(const char *text)
{
    bool good = text[0] != '\0';
    for (unsigned i = 0; i < TEXT_BYTES && text[i] != '\0'; i++)
        good = good && (unsigned char)text[i] >= 0x20 && text[i] != 0x7f;
    return good;
}

int main(void)
{
    static const char *const keys[] = {"id", "value", "issued_at", "ttl_s", "source", "other"};
    static struct command command;
    static json_t member;
    char detail[DETAIL_MAX];
    unsigned seen = 0;
    const unsigned key = nondet_unsigned() % 6;
    detail[0] = '\0';
    any_member(&member);
    if (!parse_field(keys[key], &member, &command, &seen, detail)) {
        prove(detail[0] != '\0', "what is not taken has a detail");
        return 0;
    }
    reach("a member is taken");
    prove(key < 5, "it is a known one");
    prove(key != 0 || is_printable(command.id), "an id is printable");
    prove(key != 4 || is_printable(command.source), "a source is printable");
    prove(command.issued_at_ms >= 0 && command.issued_at_ms <= INT64_C(9000000000000),
          "a time may be computed with");
    prove(command.ttl_ns >= 0 && command.ttl_ns <= 365 * 86400 * CLOCK_NS_PER_S,
          "and so may a life");
    return 0;
}
