/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_segment.c - creation, mapping and reading of segments.
 */
#include "alloy/segment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static char folder[64];
static struct segment_spec spec;

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/alloy-segment-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    spec = (struct segment_spec){
        .dir_fd = open(folder, O_RDONLY | O_DIRECTORY),
        .size = SEGMENT_BYTES_MIN,
        .align = SEGMENT_BYTES_MIN,
        .instance_id = 77,
        .stream_count = 2,
        .streams = {"orders", "clicks"},
    };
    return spec.dir_fd < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    segment_unlink(spec.dir_fd, 3);
    close(spec.dir_fd);
    return rmdir(folder);
}

static struct record *write_text(struct segment *segment, size_t *offset, const char *text)
{
    const struct record_parts parts = {
        .text = {text, strlen(text)},
        .id = {text, 1},
        .id_verbatim = true,
        .stream = 1,
        .received_ms = 5,
    };
    struct record *record = segment_write(segment, *offset, &parts);

    *offset += record->length;
    return record;
}

static void columns_stand_before_the_events_own_members(void **state)
{
    const struct record_parts parts = {.text = {"{\"id\":7}", 8},
                                       .columns = {"\"a\":\"b\",", 8},
                                       .id = {parts.text.data + 6, 1},
                                       .id_verbatim = true};
    struct segment *segment;
    struct record *record;
    size_t offset = segment_begin(SEGMENT_BYTES_MIN);

    (void)state;
    assert_int_equal(segment_create(&segment, &spec, 1), 0);
    assert_ptr_equal(segment_write(segment, offset, &parts), segment->base + offset);
    segment->limit = segment->size;
    assert_int_equal(segment_next(segment, &offset, &record), SEGMENT_RECORD);
    assert_int_equal(record->body_length, 17);
    assert_memory_equal(record->body, "{\"a\":\"b\",\"id\":7}\n", 17);
    assert_int_equal(record->columns_length, 8);
    assert_memory_equal(record_id(record), "7", 1);
    segment_close(segment);
    assert_int_equal(segment_unlink(spec.dir_fd, 1), 0);
}

static void mapping_is_aligned_and_a_record_finds_its_segment(void **state)
{
    static const size_t sizes[] = {65536, 69632, 1 << 20, 3 << 20};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct segment *segment;
        size_t offset;

        spec.size = sizes[i];
        spec.align = segment_align(sizes[i]);
        assert_true(spec.align >= spec.size && spec.align < 2 * spec.size);
        assert_int_equal(segment_create(&segment, &spec, 3), 0);
        assert_int_equal((uintptr_t)segment->base % spec.align, 0);
        offset = spec.size - 80;
        assert_ptr_equal(segment_of(write_text(segment, &offset, "abcdefg"), spec.align), segment);
        assert_int_equal(offset, spec.size);
        segment_close(segment);
        assert_int_equal(segment_unlink(spec.dir_fd, 3), 0);
    }
}

static void records_are_read_back_after_reopening(void **state)
{
    struct segment *segment;
    struct record *record;
    size_t offset = segment_begin(SEGMENT_BYTES_MIN);

    (void)state;
    assert_int_equal(segment_create(&segment, &spec, 3), 0);
    write_text(segment, &offset, "first");
    write_text(segment, &offset, "second one");
    segment_close(segment);
    assert_int_equal(segment_open(&segment, &spec, 3), 0);
    offset = segment_begin(SEGMENT_BYTES_MIN);
    assert_int_equal(segment_next(segment, &offset, &record), SEGMENT_RECORD);
    assert_memory_equal(record->body, "first\n", 6);
    assert_int_equal(segment_next(segment, &offset, &record), SEGMENT_RECORD);
    assert_memory_equal(record->body, "second one\n", 11);
    assert_int_equal(record->stream_entry, 1);
    assert_int_equal(segment_next(segment, &offset, &record), SEGMENT_END);
    segment_close(segment);
}

/* Every byte of a record, but for the stream in the process and the padding, is guarded. */
static void a_flipped_bit_in_the_middle_is_a_gap(void **state)
{
    struct segment *segment;
    struct record *record, *first;
    size_t offset = segment_begin(SEGMENT_BYTES_MIN), second;
    char *bytes;

    (void)state;
    assert_int_equal(segment_create(&segment, &spec, 3), 0);
    first = write_text(segment, &offset, "{\"id\":1}");
    second = offset;
    write_text(segment, &offset, "{\"id\":2}");
    bytes = (char *)first;
    for (size_t i = 0; i < sizeof(*first) + first->body_length; i++) {
        if (i >= offsetof(struct record, written) && i < offsetof(struct record, mark_back))
            continue;
        bytes[i] ^= 0x10;
        offset = segment_begin(SEGMENT_BYTES_MIN);
        assert_int_equal(segment_next(segment, &offset, &record), SEGMENT_GAP);
        assert_int_equal(offset, second);
        assert_int_equal(segment_next(segment, &offset, &record), SEGMENT_RECORD);
        bytes[i] ^= 0x10;
    }
    segment_close(segment);
}

static void flipped_bits_never_make_one_state_of_another(void **state)
{
    static const enum record_state states[] = {RECORD_LIVE, RECORD_INSERTED, RECORD_DUPLICATE,
                                               RECORD_DEAD, RECORD_REFUSED,  RECORD_MOVED};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(states); i++)
        for (unsigned flips = 0; flips < 1u << 16; flips++) {
            const int bits = __builtin_popcount(flips);
            const enum record_state read = record_state_of((uint16_t)(states[i] ^ flips));

            if (bits <= 3)
                assert_int_equal(read, states[i]);
            else if (bits == 4)
                assert_int_equal(read, 0);
        }
    assert_int_equal(record_state_of(0), 0);
}

static void a_flipped_bit_of_an_insert_id_is_noticed(void **state)
{
    struct {
        struct record_mark mark;
        struct record record;
    } pair = {.record = {.magic = RECORD_MAGIC, .mark_back = sizeof(struct record_mark)}};
    struct record *const record = &pair.record;

    (void)state;
    assert_int_equal(insert_id_seal(0), 0);
    for (uint64_t id = 0; id < INSERT_ID_MASK; id = id * 3 + 1)
        for (unsigned bit = 0; bit < 64; bit++) {
            record_set_insert_id(record, insert_id_seal(id));
            assert_true(record_insert_id_valid(record));
            assert_int_equal(record_insert_id(record), id);
            record_set_insert_id(record, insert_id_seal(id) ^ UINT64_C(1) << bit);
            assert_false(record_insert_id_valid(record));
        }
}

static void a_record_without_its_last_store_is_a_torn_tail(void **state)
{
    struct segment *segment;
    struct record *record;
    size_t offset = segment_begin(SEGMENT_BYTES_MIN);

    (void)state;
    assert_int_equal(segment_create(&segment, &spec, 3), 0);
    record = write_text(segment, &offset, "half");
    atomic_store(&record->written, 0);
    offset = segment_begin(SEGMENT_BYTES_MIN);
    assert_int_equal(segment_next(segment, &offset, &record), SEGMENT_TORN);
    assert_int_equal(offset, segment_begin(SEGMENT_BYTES_MIN));
    segment_close(segment);
}

/* Recovery sets such a record aside, and whoever looks for the oldest one comes by. */
static void a_mark_that_is_nowhere_is_not_looked_at(void **state)
{
    static const uint64_t backs[] = {0, 1, UINT64_MAX, UINT64_C(1) << 40, 24, SEGMENT_BYTES_MIN};
    struct segment *segment;
    struct record *record, *read;
    size_t offset, second;
    uint64_t back;

    (void)state;
    assert_int_equal(segment_create(&segment, &spec, 3), 0);
    offset = segment->begin;
    segment_came(segment, offset, 1, 5);
    record = write_text(segment, &offset, "first");
    second = offset;
    segment_came(segment, offset, 1, 5);
    write_text(segment, &offset, "second");
    atomic_store(&segment->cursor, offset);
    back = record->mark_back;
    for (size_t i = 0; i < ARRAY_LEN(backs); i++) {
        record->mark_back = backs[i];
        assert_false(segment_has_mark(segment, record));
        assert_int_equal(segment_block_oldest(segment, 0, 1), 5);
        offset = segment->begin;
        assert_int_equal(segment_next(segment, &offset, &read), SEGMENT_GAP);
        assert_int_equal(offset, second);
    }
    /* Another one's mark is where marks are, but the checksum knows better. */
    record->mark_back = back - sizeof(struct record_mark);
    assert_true(segment_has_mark(segment, record));
    offset = segment->begin;
    assert_int_equal(segment_next(segment, &offset, &read), SEGMENT_GAP);
    segment_close(segment);
}

/* Bytes that look like a record, inside an event, are at another offset than they claim. */
static void a_record_copied_elsewhere_is_not_believed(void **state)
{
    struct segment *segment;
    struct record *record;
    size_t offset = segment_begin(SEGMENT_BYTES_MIN);

    (void)state;
    assert_int_equal(segment_create(&segment, &spec, 3), 0);
    record = write_text(segment, &offset, "original");
    memcpy(segment->base + 32768, record, record->length);
    memset(record, 0, record->length);
    offset = segment_begin(SEGMENT_BYTES_MIN);
    assert_int_equal(segment_next(segment, &offset, &record), SEGMENT_TORN);
    segment_close(segment);
}

/* Its LSN does not tell its place: so its checksum does. */
static void a_copy_is_believed_in_its_place_alone(void **state)
{
    struct segment *original, *copies;
    struct record *record, *copy;
    size_t offset = segment_begin(SEGMENT_BYTES_MIN);

    (void)state;
    assert_int_equal(segment_create(&original, &spec, 3), 0);
    spec.kind = SEGMENT_COPIES;
    assert_int_equal(segment_create(&copies, &spec, 4), 0);
    assert_int_equal(segment_file_kind(&spec, 3), SEGMENT_EVENTS);
    assert_int_equal(segment_file_kind(&spec, 4), SEGMENT_COPIES);
    record = write_text(original, &offset, "original");
    record_set_insert_id(record, insert_id_seal(9));
    copy = segment_copy(copies, copies->begin, record);
    assert_int_equal(copy->lsn, (uint64_t)3 << 32 | original->begin);
    assert_int_equal(record_insert_id(copy), 9);
    assert_int_equal(copy->copies, 1);
    memcpy(copies->base + 32768, copy, copy->length);
    memcpy(original->base + 32768, copy, copy->length);
    offset = segment_begin(SEGMENT_BYTES_MIN);
    assert_int_equal(segment_next(copies, &offset, &record), SEGMENT_RECORD);
    assert_ptr_equal(record, copy);
    assert_int_equal(segment_next(copies, &offset, &record), SEGMENT_TORN);
    offset = segment_begin(SEGMENT_BYTES_MIN);
    assert_int_equal(segment_next(original, &offset, &record), SEGMENT_RECORD);
    assert_int_equal(segment_next(original, &offset, &record), SEGMENT_TORN);
    /* And no record that lies where its LSN says is believed among copies. */
    memcpy(copies->base + copies->begin, original->base + original->begin, copy->length);
    offset = segment_begin(SEGMENT_BYTES_MIN);
    assert_int_equal(segment_next(copies, &offset, &record), SEGMENT_TORN);
    segment_close(original);
    segment_close(copies);
    segment_unlink(spec.dir_fd, 4);
}

static void broken_or_foreign_headers_are_refused(void **state)
{
    struct segment *segment;
    int fd;

    (void)state;
    assert_int_equal(segment_create(&segment, &spec, 3), 0);
    segment_close(segment);
    spec.instance_id = 78;
    assert_int_equal(segment_open(&segment, &spec, 3), -EBADMSG);
    spec.instance_id = 77;
    fd = openat(spec.dir_fd, "segment-0000000003.alj", O_RDWR);
    for (off_t i = 0; i < (off_t)offsetof(struct segment_header, segment); i += 3) {
        unsigned char byte, flipped;

        assert_int_equal(pread(fd, &byte, 1, i), 1);
        flipped = byte ^ 1;
        assert_int_equal(pwrite(fd, &flipped, 1, i), 1);
        assert_int_equal(segment_open(&segment, &spec, 3), -EBADMSG);
        assert_int_equal(pwrite(fd, &byte, 1, i), 1);
    }
    assert_int_equal(ftruncate(fd, (off_t)segment_begin(SEGMENT_BYTES_MIN) - 1), 0);
    assert_int_equal(segment_open(&segment, &spec, 3), -EBADMSG);
    close(fd);
    assert_int_equal(segment_open(&segment, &spec, 4), -ENOENT);
}

static void creation_failure_leaves_no_file(void **state)
{
    struct segment *segment;
    struct segment_spec huge = spec;

    (void)state;
    /* No file system of a test machine has 2^46 bytes. */
    huge.size = huge.align = (size_t)1 << 46;
    assert_true(segment_create(&segment, &huge, 3) < 0);
    assert_int_equal(faccessat(spec.dir_fd, "segment-0000000003.tmp", F_OK, 0), -1);
    assert_int_equal(faccessat(spec.dir_fd, "segment-0000000003.alj", F_OK, 0), -1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(columns_stand_before_the_events_own_members),
        TEST(mapping_is_aligned_and_a_record_finds_its_segment),
        TEST(records_are_read_back_after_reopening),
        TEST(a_flipped_bit_in_the_middle_is_a_gap),
        TEST(flipped_bits_never_make_one_state_of_another),
        TEST(a_flipped_bit_of_an_insert_id_is_noticed),
        TEST(a_mark_that_is_nowhere_is_not_looked_at),
        TEST(a_record_without_its_last_store_is_a_torn_tail),
        TEST(a_record_copied_elsewhere_is_not_believed),
        TEST(a_copy_is_believed_in_its_place_alone),
        TEST(broken_or_foreign_headers_are_refused),
        TEST(creation_failure_leaves_no_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
