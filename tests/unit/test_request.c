/* Who may set a point over HTTP: every rule, at its edge. */
#include "bridge/ops/request.h"

#include "tests/unit/given.h"

enum field { NONE, HOST, ORIGIN, TOKEN, TYPE };

/* A good request with one field that is another, or not there. */
struct rule {
    enum field field;
    const char *text;
    unsigned status; /* 0 = it may */
};

static struct request request_of(const struct rule *rule)
{
    struct request request = {
        .host = "127.0.0.1:9464",
        .authorization = "Bearer secret",
        .content_type = "application/json",
    };
    const char **const fields[] = {NULL, &request.host, &request.origin, &request.authorization,
                                   &request.content_type};
    if (rule->field != NONE)
        *fields[rule->field] = rule->text;
    return request;
}

static void assert_rules(const struct rule *rules, size_t n, const char *listen, const char *token)
{
    for (size_t i = 0; i < n; i++) {
        const struct request request = request_of(&rules[i]);
        const struct request_fault fault = request_judge(&request, listen, token);
        if (fault.status != rules[i].status || (fault.status != 0) != (fault.reason != NULL))
            fail_msg("rule %zu: %u instead of %u", i, fault.status, rules[i].status);
    }
}

#define RULES(rules, listen, token)                                                                \
    assert_rules(rules, sizeof(rules) / sizeof(*(rules)), listen, token)

static void test_token(void **state)
{
    (void)state;
    static const struct rule rules[] = {
        {NONE, NULL, 0},
        {TOKEN, "bearer secret", 0},
        {TOKEN, "Bearer  secret", 0},
        {TOKEN, NULL, 401},
        {TOKEN, "", 401},
        {TOKEN, "Bearer", 401},
        {TOKEN, "Bearer ", 401},
        {TOKEN, "Bearer secre", 401},
        {TOKEN, "Bearer secret ", 401},
        {TOKEN, "Bearer sEcret", 401},
        {TOKEN, "Basic secret", 401},
        {TOKEN, "secret", 401},
    };
    RULES(rules, "127.0.0.1", "secret");
    static const struct rule none[] = {{NONE, NULL, 403}};
    RULES(none, "127.0.0.1", NULL);
    static const struct rule unread[] = {{NONE, NULL, 401}, {TOKEN, "Bearer ", 401}};
    RULES(unread, "127.0.0.1", "");
}

static void test_host(void **state)
{
    (void)state;
    static const struct rule rules[] = {
        {HOST, "localhost", 0},
        {HOST, "LocalHost:1", 0},
        {HOST, "127.255.255.255", 0},
        {HOST, "[::1]", 0},
        {HOST, "[0:0:0:0:0:0:0:1]:80", 0},
        {HOST, "[fd00::7]:9464", 0},
        {HOST, "[fd00:0::7]", 0},
        {HOST, "[fd00::8]", 403},
        {HOST, NULL, 403},
        {HOST, "", 403},
        {HOST, ":9464", 403},
        {HOST, "localhost.", 403},
        {HOST, "localhost:", 0},
        {HOST, "localhost:80 ", 403},
        {HOST, "localhost.example", 403},
        {HOST, "128.0.0.1", 403},
        {HOST, "127.1", 403},
        {HOST, "127.0.0.1.nip.io", 403},
        {HOST, "::1", 403},
        {HOST, "[::1", 403},
        {HOST, "[::1]x", 403},
        {HOST,
         "a-name-that-is-longer-than-any-address-of-the-own-machine-can-ever-be."
         "example",
         403},
    };
    RULES(rules, "fd00::7", "secret");
}

static void test_origin(void **state)
{
    (void)state;
    static const struct rule rules[] = {
        {ORIGIN, "http://127.0.0.1:9464", 0},
        {ORIGIN, "HTTP://127.0.0.1:9464", 0},
        {ORIGIN, "null", 403},
        {ORIGIN, "", 403},
        {ORIGIN, "http://127.0.0.1", 403},
        {ORIGIN, "http://127.0.0.1:9465", 403},
        {ORIGIN, "https://127.0.0.1:9464", 403},
        {ORIGIN, "http://localhost:9464", 403},
        {ORIGIN, "http://127.0.0.1:9464/", 403},
        {ORIGIN, "http://127.0.0.1:9464@evil.example", 403},
    };
    RULES(rules, "127.0.0.1", "secret");
}

static void test_content_type(void **state)
{
    (void)state;
    static const struct rule rules[] = {
        {TYPE, "Application/JSON", 0},
        {TYPE, "application/json;charset=utf-8", 0},
        {TYPE, "application/json ; charset=utf-8", 0},
        {TYPE, NULL, 415},
        {TYPE, "", 415},
        {TYPE, "text/plain", 415},
        {TYPE, "application/jsonl", 415},
        {TYPE, "application/json-patch+json", 415},
    };
    RULES(rules, "127.0.0.1", "secret");
}

/* Who may not at all learns nothing of what else is wrong. */
static void test_order(void **state)
{
    (void)state;
    struct request request = {.host = "localhost", .content_type = "text/plain"};
    assert_int_equal(request_judge(&request, "127.0.0.1", "secret").status, 401);
    request.origin = "null";
    assert_int_equal(request_judge(&request, "127.0.0.1", "secret").status, 403);
    request.origin = NULL;
    request.authorization = "Bearer secret";
    assert_int_equal(request_judge(&request, "127.0.0.1", "secret").status, 415);
    request.content_type = "application/json";
    assert_int_equal(request_judge(&request, "127.0.0.1", "secret").status, 0);
    request.repeated = true;
    assert_int_equal(request_judge(&request, "127.0.0.1", "secret").status, 403);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_token),  cmocka_unit_test(test_host),
        cmocka_unit_test(test_origin), cmocka_unit_test(test_content_type),
        cmocka_unit_test(test_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
