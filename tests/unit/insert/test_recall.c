/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_recall.c - which ids ClickHouse has rows of, and when that cannot be told.
 */
#include "alloy/recall.h"

#include "fake_clickhouse.h"
#include "shard.h"

#define RECORDS_MAX 16
#define ENDPOINTS 2

static struct fake fakes[ENDPOINTS];
static struct config config;
static char url[128];
static char empty[] = "";
static struct record *records[RECORDS_MAX];
static size_t count;
static bool there[RECORDS_MAX];
static char why[RECALL_WHY_MAX];

static int set_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < ENDPOINTS; i++) {
        fakes[i] = (struct fake){0};
        fake_start(&fakes[i]);
    }
    snprintf(url, sizeof(url), "http://127.0.0.1:%d", fakes[0].port);
    config = (struct config){.clickhouse_url = url,
                             .clickhouse_user = empty,
                             .clickhouse_password = empty,
                             .clickhouse_password_resolved = empty,
                             .stream_count = 1};
    config.streams[0] = (struct config_stream){.name = (char *)"a",
                                               .database = (char *)"db",
                                               .table = (char *)"ta",
                                               .table_text = (char *)"db.ta",
                                               .ids = {{CONFIG_ID_MEMBER, (char *)"event_id", 0}},
                                               .id_count = 1};
    count = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    while (count > 0)
        free(records[--count]);
    for (size_t i = 0; i < ENDPOINTS; i++)
        fake_stop(&fakes[i]);
    return 0;
}

/* An event with this id, of `more` bytes besides. */
static struct record *add(const char *id, size_t more)
{
    struct record *record = calloc(1, sizeof(*record) + more + 128);
    char *at = record->body;

    at += sprintf(at, "{\"event_id\":\"%s\",\"v\":\"", id);
    memset(at, 'v', more);
    at += more;
    at += sprintf(at, "\"}\n");
    record->body_length = (uint32_t)(at - record->body);
    record->id_length = (uint16_t)strlen(id);
    memcpy((char *)record_id(record), id, strlen(id));
    record->hash = (struct hash128){.lo = shard_hash((struct slice){id, strlen(id)}), .hi = 1};
    records[count++] = record;
    return record;
}

/* The row is in the table at that endpoint. */
static void store_row(size_t endpoint, const struct record *record)
{
    struct fake *fake = &fakes[endpoint];
    struct fake_request *request;

    pthread_mutex_lock(&fake->lock);
    request = &fake->requests[fake->count++];
    request->stored = FAKE_STORED_ALL;
    request->len = record->body_length;
    assert_true(request->len <= BODY_KEPT);
    memcpy(request->body, record->body, record->body_length);
    pthread_mutex_unlock(&fake->lock);
}

static void set_rows(size_t endpoint, enum fake_rows mode, int times)
{
    pthread_mutex_lock(&fakes[endpoint].lock);
    fakes[endpoint].rows_mode = mode;
    fakes[endpoint].rows_count = times;
    pthread_mutex_unlock(&fakes[endpoint].lock);
}

static void set_trace(size_t endpoint, const char *trace)
{
    pthread_mutex_lock(&fakes[endpoint].lock);
    fakes[endpoint].trace = trace;
    pthread_mutex_unlock(&fakes[endpoint].lock);
}

static enum recall_answer ask_since(uint64_t from_ms)
{
    const struct recall_question question = {
        .config = &config, .records = records, .n = count, .from_ms = from_ms, .timeout_ms = 5000};

    memset(there, 1, sizeof(there));
    why[0] = '\0';
    return recall_ask(&question, there, why);
}

static enum recall_answer ask(void)
{
    return ask_since(0);
}

/* ---- one endpoint ---- */

static void rows_that_are_there_are_told_and_no_others(void **state)
{
    (void)state;
    store_row(0, add("one", 0));
    add("two", 0);
    store_row(0, add("three", 10));
    assert_int_equal(ask(), RECALL_TOLD);
    assert_true(there[0]);
    assert_false(there[1]);
    assert_true(there[2]);
    assert_int_equal(fakes[0].rows_asked, 1);
    assert_int_equal(fakes[0].traces_asked, 1);
}

static void many_bytes_are_asked_about_in_parts(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        char id[16];

        sprintf(id, "big%d", i);
        add(id, 400000);
    }
    store_row(0, add("small", 0));
    add("huge", 3000000);
    assert_int_equal(ask(), RECALL_TOLD);
    /* Three of 400 kB, the others up to the one that is too large by itself. */
    assert_int_equal(fakes[0].rows_asked, 2);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(there[i], i == 5);
}

static void only_ids_that_columns_keep_as_they_are_can_be_told(void **state)
{
    static const struct {
        const char *type;
        enum recall_answer answer;
    } cases[] = {
        {"String", RECALL_TOLD},
        {"LowCardinality(String)", RECALL_TOLD},
        {"UUID", RECALL_TOLD},
        {"Int8", RECALL_TOLD},
        {"UInt64", RECALL_TOLD},
        {"Int256", RECALL_TOLD},
        {"IPv4", RECALL_TOLD},
        {"IPv6", RECALL_TOLD},
        {"FixedString(16)", RECALL_TOLD},
        {"DateTime", RECALL_CANNOT},
        {"DateTime64(3)", RECALL_CANNOT},
        {"Date", RECALL_CANNOT},
        {"Float64", RECALL_CANNOT},
        {"Decimal(9, 2)", RECALL_CANNOT},
        {"Nullable(String)", RECALL_CANNOT},
        {"Enum8('a' = 1)", RECALL_CANNOT},
        {"Int", RECALL_CANNOT},
        {"Int640", RECALL_CANNOT},
        {"FixedString(", RECALL_CANNOT},
        {"", RECALL_CANNOT},
    };

    (void)state;
    store_row(0, add("one", 0));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char trace[256];

        snprintf(trace, sizeof(trace),
                 "[1, 1700000000, 100, [\"MergeTree\"], [[\"event_id\", \"%s\", \"\"]]]\n",
                 cases[i].type);
        set_trace(0, trace);
        if (ask() != cases[i].answer)
            fail_msg("%s", cases[i].type);
        assert_int_equal(there[0], cases[i].answer == RECALL_TOLD);
        if (cases[i].answer == RECALL_CANNOT)
            assert_string_equal(why, "a column of the id is not a string, an integer or a UUID");
    }
}

static void of_an_id_of_several_columns_each_must_keep_its_part(void **state)
{
    struct config_stream *stream = &config.streams[0];

    (void)state;
    stream->ids[0] = (struct config_id_source){CONFIG_ID_MEMBER, (char *)"a`, `b", 0};
    stream->ids[1] = (struct config_id_source){CONFIG_ID_MEMBER, (char *)"event_id", 1};
    stream->id_count = 2;
    add("one", 0);
    set_trace(0, "[1, 2, 100, [\"MergeTree\"], [[\"event_id\", \"UUID\", \"\"], "
                 "[\"a`, `b\", \"UInt8\", \"DEFAULT\"]]]");
    assert_int_equal(ask(), RECALL_TOLD);
    set_trace(0, "[1, 2, 100, [\"MergeTree\"], [[\"event_id\", \"UUID\", \"\"], "
                 "[\"a`, `b\", \"Float32\", \"DEFAULT\"]]]");
    assert_int_equal(ask(), RECALL_CANNOT);
    set_trace(0, "[1, 2, 100, [\"MergeTree\"], [[\"event_id\", \"Date\", \"\"], "
                 "[\"a`, `b\", \"UInt8\", \"DEFAULT\"]]]");
    assert_int_equal(ask(), RECALL_CANNOT);
    /* One has no column. */
    set_trace(0, "[1, 2, 100, [\"MergeTree\"], [[\"event_id\", \"UUID\", \"\"]]]");
    assert_int_equal(ask(), RECALL_CANNOT);
    assert_string_equal(why, "an id field has no column, or no member in the event");
    assert_int_equal(fakes[0].rows_asked, 1);
}

static void ids_that_the_table_does_not_tell_apart_are_not_told(void **state)
{
    (void)state;
    store_row(0, add("one", 0));
    add("two", 0);
    set_rows(0, FAKE_ROWS_ALIKE, -1);
    assert_int_equal(ask(), RECALL_CANNOT);
    assert_string_equal(why, "the table does not tell the ids from each other");
    assert_false(there[0]);
    /* They are one id: that is as it should be. */
    records[1]->hash = records[0]->hash;
    assert_int_equal(ask(), RECALL_TOLD);
    set_rows(0, FAKE_ROWS_TOLD, -1);
    assert_int_equal(ask(), RECALL_CANNOT);
}

/* A merge may have dropped some between the two questions; a policy hides them always. */
static void a_table_that_hides_rows_is_looked_at_twice(void **state)
{
    (void)state;
    store_row(0, add("one", 0));
    set_rows(0, FAKE_ROWS_HIDDEN, 1);
    assert_int_equal(ask(), RECALL_TOLD);
    assert_true(there[0]);
    assert_int_equal(fakes[0].rows_asked, 2);
    assert_int_equal(fakes[0].traces_asked, 2);
    set_rows(0, FAKE_ROWS_HIDDEN, -1);
    assert_int_equal(ask(), RECALL_CANNOT);
    assert_string_equal(why, "the table does not show all its rows");
    assert_false(there[0]);
    assert_int_equal(fakes[0].rows_asked, 4);
}

static void a_question_that_fails_is_asked_again_or_never(void **state)
{
    static const struct {
        enum fake_rows mode;
        enum recall_answer answer;
        const char *why;
    } cases[] = {
        {FAKE_ROWS_LOST, RECALL_AWAY, "code 0, HTTP status 0"},
        {FAKE_ROWS_BUSY, RECALL_AWAY, "code 202, HTTP status 500"},
        {FAKE_ROWS_GONE, RECALL_AWAY, "code 60, HTTP status 500"},
        /* Without its words, which may quote an event. */
        {FAKE_ROWS_DENIED, RECALL_CANNOT, "code 497, HTTP status 500"},
    };

    (void)state;
    store_row(0, add("one", 0));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        set_rows(0, cases[i].mode, -1);
        if (ask() != cases[i].answer)
            fail_msg("%s", cases[i].why);
        if (cases[i].mode != FAKE_ROWS_LOST)
            assert_string_equal(why, cases[i].why);
        assert_false(there[0]);
    }
    set_rows(0, FAKE_ROWS_TOLD, -1);
    set_trace(0, "[1, 1700000000, 0, [], []]\n");
    assert_int_equal(ask(), RECALL_AWAY);
    assert_string_equal(why, "there is no table, or no right to see it");
    set_trace(0, "<html>\n");
    assert_int_equal(ask(), RECALL_CANNOT);
    assert_string_equal(why, "its answer cannot be read");
}

static void parts_are_as_old_as_the_claims_that_may_be_lost_and_a_margin(void **state)
{
    const uint64_t now_ms = clock_real_ms();
    uint64_t age_s;
    static const char before[] = "toUnixTimestamp%28now%28%29%29%20-%20";
    const char *at;

    (void)state;
    add("one", 0);
    for (int i = 0; i < 3; i++) {
        static const uint64_t least[] = {1000000000, 600, 700}, most[] = {1000000000, 601, 730};

        assert_int_equal(ask_since(i == 0   ? 0
                                   : i == 1 ? now_ms + 3600000
                                            : now_ms - 100000),
                         RECALL_TOLD);
        at = strstr(fakes[0].trace_url, before);
        assert_non_null(at);
        age_s = strtoull(at + strlen(before), NULL, 10);
        assert_in_range(age_s, least[i], most[i]);
    }
}

/* ---- several ---- */

static void use_both(const char *between)
{
    snprintf(url, sizeof(url), "http://127.0.0.1:%d%shttp://127.0.0.1:%d", fakes[0].port, between,
             fakes[1].port);
}

static void of_replicas_all_that_answer_are_asked(void **state)
{
    (void)state;
    use_both(",");
    store_row(0, add("one", 0));
    store_row(1, add("two", 0));
    add("three", 0);
    assert_int_equal(ask(), RECALL_TOLD);
    assert_true(there[0]);
    assert_true(there[1]);
    assert_false(there[2]);
    set_rows(0, FAKE_ROWS_LOST, -1);
    assert_int_equal(ask(), RECALL_TOLD);
    assert_false(there[0]);
    assert_true(there[1]);
    set_rows(1, FAKE_ROWS_BUSY, -1);
    assert_int_equal(ask(), RECALL_AWAY);
    /* What one cannot tell the other does not know for it. */
    set_rows(0, FAKE_ROWS_HIDDEN, -1);
    set_rows(1, FAKE_ROWS_TOLD, -1);
    assert_int_equal(ask(), RECALL_CANNOT);
}

static void each_id_is_looked_for_in_its_own_shard(void **state)
{
    size_t of_first = 0;

    (void)state;
    use_both("|");
    for (int i = 0; i < 12; i++) {
        char id[16];
        struct record *record;

        sprintf(id, "id%d", i);
        record = add(id, 0);
        store_row(0, record); /* rows of the other shard are none of its own */
        of_first += shard_of(shard_hash((struct slice){id, strlen(id)}), 2) == 0;
    }
    assert_in_range(of_first, 1, 11);
    assert_int_equal(ask(), RECALL_TOLD);
    for (size_t i = 0; i < count; i++) {
        const struct slice id = {record_id(records[i]), records[i]->id_length};

        assert_int_equal(there[i], shard_of(shard_hash(id), 2) == 0);
    }
    assert_int_equal(fakes[0].rows_asked, 1);
    assert_int_equal(fakes[1].rows_asked, 1);
    set_rows(1, FAKE_ROWS_LOST, -1);
    assert_int_equal(ask(), RECALL_AWAY);
    /* A shard that has none of the ids is not asked. */
    while (count > 0)
        free(records[--count]);
    for (int i = 0; count == 0; i++) {
        char id[16];

        sprintf(id, "only%d", i);
        if (shard_of(shard_hash((struct slice){id, strlen(id)}), 2) == 0)
            store_row(0, add(id, 0));
    }
    assert_int_equal(ask(), RECALL_TOLD);
    assert_true(there[0]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(rows_that_are_there_are_told_and_no_others),
        TEST(many_bytes_are_asked_about_in_parts),
        TEST(only_ids_that_columns_keep_as_they_are_can_be_told),
        TEST(of_an_id_of_several_columns_each_must_keep_its_part),
        TEST(ids_that_the_table_does_not_tell_apart_are_not_told),
        TEST(a_table_that_hides_rows_is_looked_at_twice),
        TEST(a_question_that_fails_is_asked_again_or_never),
        TEST(parts_are_as_old_as_the_claims_that_may_be_lost_and_a_margin),
        TEST(of_replicas_all_that_answer_are_asked),
        TEST(each_id_is_looked_for_in_its_own_shard),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
