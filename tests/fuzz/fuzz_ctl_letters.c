/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_ctl_letters.c - alloyctl dead-letter list and show over a file of any bytes.
 *
 * Runs on: libFuzzer. Owns: nothing.
 */
#include "ctl.h"

#include "folder_fixture.h"

#define FILE_NAME "orders-20260131T120000Z-1.ndjson"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The bytes stay where they are until the stream is closed. */
FILE *fdopen(int fd, const char *mode)
{
    const struct folder_file *file = folder_open_of(fd)->file;

    close(fd);
    return fmemopen(file->data, file->size, mode);
}

static void start(void)
{
    /* It tells of each line that it cannot read; libFuzzer keeps the stream that it began with. */
    stderr = fopen("/dev/null", "w");
    ALLOY_ASSERT(stderr != NULL);
}

/* What show --raw must give: every whole line that is a letter, as it is. */
static void put_letters(FILE *out, const char *text, size_t len)
{
    const char *end = text + len, *stop;
    struct letter letter;

    for (; (stop = memchr(text, '\n', (size_t)(end - text))) != NULL; text = stop + 1) {
        const struct slice line = {text, (size_t)(stop - text)};

        if (line.len > 0 && letter_parse(line, &letter))
            fwrite(text, 1, line.len + 1, out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool started;
    const struct ctl_show raw = {.raw = true};
    const struct ctl_show pretty = {.filter = {.stream = "orders", .code = 27}};
    char *shown = NULL, *wanted = NULL;
    size_t shown_len = 0, wanted_len = 0;
    FILE *out;
    int status;

    if (size == 0)
        return 0;
    if (!started)
        start();
    started = true;
    folder_write(FILE_NAME, data, size, size);

    out = open_memstream(&wanted, &wanted_len);
    put_letters(out, (const char *)data, size);
    fclose(out);
    out = open_memstream(&shown, &shown_len);
    status = ctl_letters_show(FOLDER_PATH, &raw, (struct ctl_out){.file = out});
    fclose(out);
    ALLOY_ASSERT(shown_len == wanted_len && memcmp(shown, wanted, wanted_len) == 0);
    free(shown);
    free(wanted);

    out = open_memstream(&shown, &shown_len);
    ALLOY_ASSERT(ctl_letters_list(FOLDER_PATH, (struct ctl_out){.file = out}) == status);
    (void)ctl_letters_show(FOLDER_PATH, &pretty, (struct ctl_out){.file = out});
    fclose(out);
    free(shown);
    return 0;
}
