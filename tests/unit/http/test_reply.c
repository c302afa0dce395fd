/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_reply.c - the bytes of answers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include <jansson.h>

#include "alloy/reply.h"
#include "alloy/waiter.h"

static struct reply_date date;
static char out[REPLY_MAX];

static const char *written(const struct reply *reply)
{
    size_t len = reply_write(reply, &date, out);

    assert_true(len < sizeof(out));
    out[len] = '\0';
    return out;
}

static int set_date(void **state)
{
    (void)state;
    date = (struct reply_date){0};
    reply_date_update(&date, 1795503315999);
    return 0;
}

static void an_accepted_request_is_answered_byte_for_byte(void **state)
{
    (void)state;
    assert_string_equal(written(&(struct reply){.status = 202, .accepted = 12, .duplicates = 3}),
                        "HTTP/1.1 202 Accepted\r\n"
                        "Date: Tue, 24 Nov 2026 06:55:15 GMT\r\n"
                        "Content-Type: application/json\r\n"
                        "Content-Length: 30\r\n"
                        "\r\n"
                        "{\"accepted\":12,\"duplicates\":3}");
}

static void an_inserted_request_has_the_same_body(void **state)
{
    (void)state;
    written(&(struct reply){.status = 200, .accepted = 12, .duplicates = 3});
    assert_non_null(strstr(out, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(out, "\r\n\r\n{\"accepted\":12,\"duplicates\":3}"));
}

/* As many and as long as they can be, of characters that double. */
static void the_largest_rejection_fits_and_is_json(void **state)
{
    static struct waiter_rejection rejections[WAITER_REJECTIONS_MAX];
    static char large[REPLY_REJECTED_MAX + 1];
    static struct reply_errors errors = {.invalid = UINT32_MAX};
    struct reply reply = {.status = 422,
                          .error = ERROR_rejected,
                          .close = true,
                          .lenient = true,
                          .accepted = UINT32_MAX,
                          .duplicates = UINT32_MAX,
                          .errors = &errors,
                          .rejected = UINT32_MAX,
                          .rejected_duplicates = UINT32_MAX,
                          .rejections = rejections};
    json_error_t error;
    json_t *body, *last;
    size_t len;

    (void)state;
    for (size_t i = 0; i < WAITER_REJECTIONS_MAX; i++) {
        rejections[i].next = i + 1 < WAITER_REJECTIONS_MAX ? &rejections[i + 1] : NULL;
        rejections[i].event = UINT32_MAX;
        rejections[i].duplicate = true;
        rejections[i].code = i == 0 ? -1 : INT32_MAX;
        memset(rejections[i].message, i % 2 ? '"' : '\\', WAITER_MESSAGE_MAX);
    }
    len = reply_write(&reply, &date, large);
    assert_true(len <= REPLY_REJECTED_MAX);
    large[len] = '\0';
    assert_non_null(strstr(large, "HTTP/1.1 422 Unprocessable Content\r\n"));
    body = json_loads(strstr(large, "\r\n\r\n") + 4, 0, &error);
    assert_non_null(body);
    assert_string_equal(json_string_value(json_object_get(body, "error")), "rejected");
    assert_int_equal(json_array_size(json_object_get(body, "rejected")), WAITER_REJECTIONS_MAX);
    last = json_array_get(json_object_get(body, "rejected"), WAITER_REJECTIONS_MAX - 1);
    assert_int_equal(json_integer_value(json_object_get(last, "code")), INT32_MAX);
    assert_int_equal(json_integer_value(json_object_get(last, "event")), UINT32_MAX);
    assert_string_equal(json_string_value(json_object_get(last, "message")),
                        rejections[WAITER_REJECTIONS_MAX - 1].message);
    json_decref(body);
}

/* The body of a 422 for these rejections. */
static const char *rejected_body(uint32_t rejected, uint32_t duplicates,
                                 const struct waiter_rejection *rejections)
{
    written(&(struct reply){.status = 422,
                            .error = ERROR_rejected,
                            .rejected = rejected,
                            .rejected_duplicates = duplicates,
                            .rejections = rejections});
    return strstr(out, "\r\n\r\n") + 4;
}

static void
a_duplicate_of_a_rejected_event_is_marked_and_not_claimed_to_be_in_the_folder(void **state)
{
    struct waiter_rejection second = {.event = 1, .duplicate = true, .code = 27, .message = "bad"};
    struct waiter_rejection first = {.next = &second, .code = 27, .message = "bad"};

    (void)state;
    assert_string_equal(rejected_body(2, 1, &first),
                        "{\"error\":\"rejected\",\"message\":\"ClickHouse rejected 2 of the "
                        "request's events (1 of them a duplicate of a rejected event). What was "
                        "rejected is in the dead-letter folder; the others are not affected.\","
                        "\"rejected\":[{\"event\":0,\"code\":27,\"message\":\"bad\"},"
                        "{\"event\":1,\"duplicate\":true,\"code\":27,\"message\":\"bad\"}]}");
    assert_non_null(strstr(rejected_body(3, 2, &first),
                           "events (2 of them duplicates of rejected events). What"));
    second.duplicate = false;
    assert_non_null(strstr(rejected_body(2, 0, &first), "request's events. What was rejected is"));
    assert_null(strstr(out, "duplicate"));
}

static void a_lenient_request_with_rejected_events_hears_of_invalid_ones_too(void **state)
{
    struct waiter_rejection second = {.event = 1, .code = 27, .message = "b"};
    struct waiter_rejection first = {.next = &second, .code = 27, .message = "a"};
    /* Of the request 0 1 2 3 the first and the third are invalid. */
    static struct reply_errors errors = {
        .invalid = 2,
        .count = 2,
        .list = {{.event = 0, .error = ERROR_missing_id, .message = "m"},
                 {.event = 2, .offset = 9, .error = ERROR_missing_id, .message = "n"}}};

    (void)state;
    written(&(struct reply){.status = 422,
                            .error = ERROR_rejected,
                            .lenient = true,
                            .accepted = 2,
                            .errors = &errors,
                            .rejected = 2,
                            .rejections = &first});
    assert_non_null(strstr(out,
                           "\"rejected\":[{\"event\":1,\"code\":27,\"message\":\"a\"},"
                           "{\"event\":3,\"code\":27,\"message\":\"b\"}],\"accepted\":2,"
                           "\"duplicates\":0,\"invalid\":2,\"errors\":[{\"event\":0,\"offset\":0"
                           ",\"error\":\"missing_id\",\"message\":\"m\"},{\"event\":2,"));
}

static void numbers_reach_their_largest_value(void **state)
{
    (void)state;
    written(&(struct reply){.status = 202, .accepted = UINT32_MAX, .duplicates = UINT32_MAX});
    assert_non_null(strstr(out, "{\"accepted\":4294967295,\"duplicates\":4294967295}"));
    written(&(struct reply){.status = 400,
                            .error = ERROR_invalid_json,
                            .message = "m",
                            .has_place = true,
                            .event = 7,
                            .offset = SIZE_MAX});
    assert_non_null(strstr(out, ",\"event\":7,\"offset\":18446744073709551615}"));
}

static void an_error_without_a_place_names_none(void **state)
{
    (void)state;
    written(&(struct reply){.status = 404, .error = ERROR_not_found, .message = "No."});
    assert_non_null(strstr(out, "\r\n\r\n{\"error\":\"not_found\",\"message\":\"No.\"}"));
}

static void status_405_names_the_allowed_method_and_503_when_to_retry(void **state)
{
    (void)state;
    written(&(struct reply){.status = 405, .error = ERROR_method_not_allowed, .message = "m"});
    assert_non_null(strstr(out, "\r\nAllow: POST\r\n"));
    assert_null(strstr(out, "Retry-After"));
    written(&(struct reply){.status = 503, .error = ERROR_overloaded, .message = "m"});
    assert_non_null(strstr(out, "\r\nRetry-After: 1\r\n"));
    assert_null(strstr(out, "Allow"));
}

static void connection_is_named_only_when_it_must_be(void **state)
{
    (void)state;
    written(&(struct reply){.status = 202});
    assert_null(strstr(out, "Connection"));
    written(&(struct reply){.status = 202, .keep_alive = true});
    assert_non_null(strstr(out, "\r\nConnection: keep-alive\r\n"));
    written(&(struct reply){.status = 202, .keep_alive = true, .close = true});
    assert_non_null(strstr(out, "\r\nConnection: close\r\n"));
    assert_null(strstr(out, "keep-alive"));
}

static void an_answer_to_head_has_no_body(void **state)
{
    size_t len;

    (void)state;
    written(&(struct reply){
        .status = 405, .error = ERROR_method_not_allowed, .message = "m", .head_only = true});
    len = strlen(out);
    assert_memory_equal(out + len - 4, "\r\n\r\n", 4);
    assert_null(strstr(out, "Content-Length: 0"));
}

static void any_message_is_valid_json_and_fits(void **state)
{
    char message[REPLY_MESSAGE_MAX * 2];
    json_t *json;

    (void)state;
    memset(message, 1, sizeof(message) - 1);
    message[sizeof(message) - 1] = '\0';
    memcpy(message, "\"\\\n\t", 4);
    written(&(struct reply){.status = 431, .error = ERROR_bad_request, .message = message});
    json = json_loads(strstr(out, "\r\n\r\n") + 4, 0, NULL);
    assert_non_null(json);
    assert_int_equal(json_string_length(json_object_get(json, "message")), REPLY_MESSAGE_MAX);
    assert_memory_equal(json_string_value(json_object_get(json, "message")), message,
                        REPLY_MESSAGE_MAX);
    json_decref(json);
}

static void the_date_changes_with_the_second(void **state)
{
    (void)state;
    reply_date_update(&date, 1795503316000);
    assert_string_equal(date.text, "Tue, 24 Nov 2026 06:55:16 GMT");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_accepted_request_is_answered_byte_for_byte, set_date),
        cmocka_unit_test_setup(an_inserted_request_has_the_same_body, set_date),
        cmocka_unit_test_setup(the_largest_rejection_fits_and_is_json, set_date),
        cmocka_unit_test_setup(
            a_duplicate_of_a_rejected_event_is_marked_and_not_claimed_to_be_in_the_folder,
            set_date),
        cmocka_unit_test_setup(a_lenient_request_with_rejected_events_hears_of_invalid_ones_too,
                               set_date),
        cmocka_unit_test_setup(numbers_reach_their_largest_value, set_date),
        cmocka_unit_test_setup(an_error_without_a_place_names_none, set_date),
        cmocka_unit_test_setup(status_405_names_the_allowed_method_and_503_when_to_retry, set_date),
        cmocka_unit_test_setup(connection_is_named_only_when_it_must_be, set_date),
        cmocka_unit_test_setup(an_answer_to_head_has_no_body, set_date),
        cmocka_unit_test_setup(any_message_is_valid_json_and_fits, set_date),
        cmocka_unit_test_setup(the_date_changes_with_the_second, set_date),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
