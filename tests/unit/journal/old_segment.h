/* SPDX-License-Identifier: Apache-2.0 */
/*
 * old_segment.h - writes a segment's file again as an older alloyd would have, with its marks in
 * the records.
 */
#ifndef ALLOY_TEST_OLD_SEGMENT_H
#define ALLOY_TEST_OLD_SEGMENT_H

#include "alloy/segment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* The file must have two KiB to spare. */
static inline void old_segment_make(const char *path, size_t size, uint32_t version)
{
    char *const image = malloc(size), *const old = calloc(1, size);
    struct segment_header *header = (struct segment_header *)old;
    size_t at = segment_begin(size), to = SEGMENT_HEADER_BYTES;
    const int fd = open(path, O_RDWR);

    assert_int_equal(pread(fd, image, size, 0), (ssize_t)size);
    memcpy(header, image, sizeof(*header));
    assert_int_equal(header->version, SEGMENT_VERSION);
    header->version = version;
    header->header_bytes = SEGMENT_HEADER_BYTES;
    header->checksum = XXH3_64bits(header, offsetof(struct segment_header, checksum));
    for (struct record *record; (record = (struct record *)(image + at))->magic == RECORD_MAGIC;
         at += record->length) {
        const struct record_mark mark = *record_mark(record);
        struct record *copy = (struct record *)(old + to);

        memcpy(copy, record, record->length);
        copy->magic = RECORD_MAGIC_INLINE;
        copy->lsn = (uint64_t)header->number << 32 | to;
        copy->checksum =
            (uint32_t)XXH3_64bits(&copy->lsn, offsetof(struct record, body) + copy->body_length -
                                                  offsetof(struct record, lsn));
        atomic_store(&copy->written, mark.state == 0 ? RECORD_LIVE : mark.state);
        copy->mark_back = mark.insert_id;
        to += record->length;
    }
    /* What lies elsewhere than it says is not believed. */
    assert_true(to <= size - 2048);
    memcpy(old + size - 2048, old + SEGMENT_HEADER_BYTES, 1024);
    assert_int_equal(pwrite(fd, old, size, 0), (ssize_t)size);
    close(fd);
    free(image);
    free(old);
}

#endif
