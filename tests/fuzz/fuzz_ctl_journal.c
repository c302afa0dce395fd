/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_ctl_journal.c - alloyctl journal inspect and verify over any bytes in a segment file.
 *
 * The first byte chooses as in fuzz_recover.c: bit 0, the bytes lie over the whole file, header
 * included, else behind a good header; bit 1, what looks like a record gets its right place and
 * checksum; bit 2, the file ends with the bytes; bit 3, the header's checksum is made right; bits
 * 4 to 7, the file ends with the bytes too, since to read its zeros is most of a run.
 */
#include "ctl.h"

#include "alloy/journal.h"
#include "alloy/journal_dir.h"
#include "alloy/log.h"
#include "alloy/segment.h"

#include <xxhash.h>

#include "folder_fixture.h"
#include "segment_image.h"

#define CUT 0xe4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char name[SEGMENT_NAME_MAX];
static char header[SEGMENT_HEADER_BYTES];

/* Has a journal make a folder and the header of its first segment. */
static void start(void)
{
    static const char *const names[] = {"orders", "clicks"};
    const struct journal_options options = {.dir = FOLDER_PATH,
                                            .segment_bytes = SEGMENT_BYTES_MIN,
                                            .max_bytes = 2 * SEGMENT_BYTES_MIN,
                                            .writer_count = 1,
                                            .stream_names = names,
                                            .stream_count = ARRAY_LEN(names)};
    char error[JOURNAL_ERROR_MAX];
    struct journal *journal;
    int fd;

    log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT);
    ALLOY_ASSERT(journal_open(&journal, &options, error) == 0);
    segment_name(name, 1, "alj");
    fd = openat(journal_segments(journal)->dir_fd, name, O_RDONLY | O_CLOEXEC);
    ALLOY_ASSERT(fd >= 0 && pread(fd, header, sizeof(header), 0) == (ssize_t)sizeof(header));
    close(fd);
    journal_close(journal);
}

static void write_segment(const uint8_t *data, size_t size)
{
    static size_t dirty = FILE_BYTES;
    const unsigned choice = data[0];
    const size_t begin = (choice & 1) ? 0 : image_begin(choice);
    struct segment_header *head = (struct segment_header *)image;
    size_t end, length;

    data++;
    size--;
    memset(image, 0, dirty);
    image_put_header(header, choice);
    if (size > FILE_BYTES - begin)
        size = FILE_BYTES - begin;
    end = begin + size;
    memcpy(image + begin, data, size);
    if (choice & 2)
        image_repair(choice, false, end);
    if (choice & 8)
        head->checksum = XXH3_64bits(head, offsetof(struct segment_header, checksum));
    /* What begins before the end, and was repaired, may end behind it. */
    dirty = (end > image_begin(choice) ? end : image_begin(choice)) + sizeof(struct record);
    if (dirty > FILE_BYTES)
        dirty = FILE_BYTES;
    length = (choice & CUT) ? end : FILE_BYTES;
    folder_write(name, image, length < dirty ? length : dirty, length);
}

/* Runs one command; returns its exit status and owned *text. */
static int run(int (*command)(const char *dir, struct ctl_out out), char **text)
{
    size_t len = 0;
    FILE *out = open_memstream(text, &len);
    int status;

    ALLOY_ASSERT(out != NULL);
    status = command(FOLDER_PATH, (struct ctl_out){.file = out});
    ALLOY_ASSERT(fclose(out) == 0);
    ALLOY_ASSERT(strlen(*text) == len);
    return status;
}

/* The number before the last place of word: a stream's name may hold it too. */
static unsigned long long number_before(const char *text, const char *word)
{
    const char *at = strstr(text, word);

    ALLOY_ASSERT(at != NULL && at > text);
    for (const char *next; (next = strstr(at + 1, word)) != NULL;)
        at = next;
    for (at--; at > text && at[-1] >= '0' && at[-1] <= '9';)
        at--;
    return strtoull(at, NULL, 10);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *inspected, *verified;
    const char *sums;
    int status;

    if (size < 1)
        return 0;
    if (name[0] == '\0')
        start();
    write_segment(data, size);

    status = run(ctl_journal_verify, &verified);
    ALLOY_ASSERT(run(ctl_journal_inspect, &inspected) == status);
    /* The last line of each counts the same. */
    sums = memrchr(verified, '\n', strlen(verified) - 1);
    sums = sums != NULL ? sums : verified;
    ALLOY_ASSERT((number_before(sums, " problem") > 0) == (status != EXIT_SUCCESS));
    ALLOY_ASSERT(number_before(sums, " record") == number_before(inspected, " record"));
    free(inspected);
    free(verified);
    return 0;
}
