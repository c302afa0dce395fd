/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_recover.c - recovery over arbitrary bytes in a segment file.
 *
 * The first byte chooses. Bit 0: the bytes cover the whole file, header included, else they follow
 * a good header. Bit 1: what looks like a record gets its correct place and checksum, so that the
 * checks behind these are reached. Bit 2: the file ends with the bytes. Bit 3: it is a segment of
 * copies, whose records may name places in the same segment.
 */
#include "alloy/recover.h"

#include "alloy/journal_dir.h"

#include <xxhash.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES SEGMENT_BYTES_MIN

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {"orders", "clicks"};
static char folder[64];
static char headers[2][SEGMENT_HEADER_BYTES]; /* by enum segment_kind */
static char image[FILE_BYTES];
static volatile size_t touched;

static struct journal *open_journal(void)
{
    const struct journal_options options = {
        .dir = folder,
        .segment_bytes = SEGMENT_BYTES_MIN,
        .max_bytes = 2 * SEGMENT_BYTES_MIN,
        .writer_count = 1,
        .stream_names = names,
        .stream_count = ARRAY_LEN(names),
    };
    char error[JOURNAL_ERROR_MAX];
    struct journal *journal;

    if (journal_open(&journal, &options, error) != 0) {
        fprintf(stderr, "%s\n", error);
        abort();
    }
    return journal;
}

static void remove_folder(void)
{
    static const char *const files[] = {"instance", "instance.tmp", "lock"};
    const int fd = open(folder, O_RDONLY | O_DIRECTORY);

    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        unlinkat(fd, files[i], 0);
    close(fd);
    rmdir(folder);
}

static void make_header(void)
{
    struct journal *journal;
    char name[SEGMENT_NAME_MAX];
    struct segment_header *copies;
    int fd;

    strcpy(folder, "/dev/shm/alloy-fuzz-XXXXXX");
    if (mkdtemp(folder) == NULL)
        abort();
    atexit(remove_folder);
    journal = open_journal();
    segment_name(name, 1, "alj");
    fd = openat(journal_segments(journal)->dir_fd, name, O_RDONLY);
    if (fd < 0 || pread(fd, headers[0], sizeof(headers[0]), 0) != (ssize_t)sizeof(headers[0]))
        abort();
    close(fd);
    journal_close(journal);
    memcpy(headers[1], headers[0], sizeof(headers[0]));
    copies = (struct segment_header *)headers[1];
    copies->kind = SEGMENT_COPIES;
    copies->checksum = XXH3_64bits(copies, offsetof(struct segment_header, checksum));
}

static void repair(bool copies)
{
    for (size_t at = SEGMENT_HEADER_BYTES; at + sizeof(struct record) < FILE_BYTES; at += 8) {
        struct record *record = (struct record *)(image + at);
        const size_t from = offsetof(struct record, lsn);
        size_t used;

        if (record->magic != RECORD_MAGIC)
            continue;
        if (copies)
            record->copies |= 1;
        else
            record->lsn = (uint64_t)1 << 32 | at;
        used = sizeof(*record) + record->body_length % FILE_BYTES;
        if (record->id_offset == record->body_length)
            used += record->id_length;
        if (at + used <= FILE_BYTES)
            record->checksum =
                (uint32_t)(copies ? XXH3_64bits_withSeed(image + at + from, used - from,
                                                         (uint64_t)1 << 32 | at)
                                  : XXH3_64bits(image + at + from, used - from));
    }
}

static void visit(void *arg, struct record *record)
{
    struct journal *journal = arg;
    const char *id = record_id(record);

    for (size_t i = 0; i < record->body_length; i++)
        touched += (size_t)record->body[i];
    for (size_t i = 0; i < record->id_length; i++)
        touched += (size_t)id[i];
    if (record->stream >= ARRAY_LEN(names))
        abort();
    if (record->state == RECORD_LIVE && record->received_ms % 2 == 0)
        journal_finish(journal, &record, 1, RECORD_INSERTED);
}

static size_t build(const uint8_t *data, size_t size)
{
    const unsigned choice = data[0];
    size_t at = (choice & 1) ? 0 : SEGMENT_HEADER_BYTES;

    data++;
    size--;
    memset(image, 0, sizeof(image));
    memcpy(image, headers[choice >> 3 & 1], sizeof(headers[0]));
    if (size > FILE_BYTES - at)
        size = FILE_BYTES - at;
    memcpy(image + at, data, size);
    if (choice & 2)
        repair(choice & 8);
    at += size;
    return (choice & 4) ? at : FILE_BYTES;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[128], name[SEGMENT_NAME_MAX], error[JOURNAL_ERROR_MAX];
    struct recover_stats stats;
    struct journal *journal;
    size_t length;
    int fd, err;

    if (size < 1)
        return 0;
    if (folder[0] == '\0')
        make_header();
    length = build(data, size);
    segment_name(name, 1, "alj");
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (write(fd, image, length) != (ssize_t)length)
        abort();
    close(fd);
    journal = open_journal();
    err = recover_run(journal, visit, journal, &stats, error);
    if (err != 0 && err != -EPROTO) /* another version's segment is left alone */
        abort();
    journal_maintain(journal, 0, 0);
    if (journal_live(journal, 0) + journal_live(journal, 1) > stats.live)
        abort();
    journal_close(journal);
    unlink(path);
    strcat(path, ".corrupt");
    unlink(path);
    return 0;
}
