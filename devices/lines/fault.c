#include "devices/lines/fault.h"

#include <stddef.h>

static const char *const WORDS[FAULT_COUNT] = {
    [FAULT_NONE] = "ok",
    [FAULT_ILLEGAL_FUNCTION] = "illegal_function",
    [FAULT_ILLEGAL_ADDRESS] = "illegal_address",
    [FAULT_ILLEGAL_VALUE] = "illegal_value",
    [FAULT_DEVICE_FAILURE] = "device_failure",
    [FAULT_ACKNOWLEDGE] = "acknowledge",
    [FAULT_BUSY] = "busy",
    [FAULT_GATEWAY_PATH] = "gateway_path",
    [FAULT_GATEWAY_TARGET] = "gateway_target",
    [FAULT_TIMEOUT] = "timeout",
    [FAULT_CONNECTION] = "connection",
    [FAULT_BAD_REPLY] = "bad_reply",
    [FAULT_NOT_FINITE] = "not_finite",
    [FAULT_IMPLAUSIBLE] = "implausible",
};

const char *fault_word(enum fault fault)
{
    unsigned index = (unsigned)fault;
    const char *word = index < FAULT_COUNT ? WORDS[index] : NULL;
    return word ? word : WORDS[FAULT_DEVICE_FAILURE];
}

bool fault_is_exception(enum fault fault)
{
    unsigned index = (unsigned)fault;
    return index != FAULT_NONE && index <= FAULT_GATEWAY_TARGET && WORDS[index];
}

enum fault fault_from_exception(unsigned code)
{
    bool known = code < FAULT_COUNT && fault_is_exception((enum fault)code);
    return known ? (enum fault)code : FAULT_DEVICE_FAILURE;
}

bool fault_is_silence(enum fault fault)
{
    switch (fault) {
    case FAULT_GATEWAY_PATH:
    case FAULT_GATEWAY_TARGET:
    case FAULT_TIMEOUT:
    case FAULT_CONNECTION:
    case FAULT_BAD_REPLY:
        return true;
    default:
        return false;
    }
}
