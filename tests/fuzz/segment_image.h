/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment_image.h - a segment's file of bytes that the fuzzer chose: checksums are made right, so
 * that it gets behind them.
 */
#ifndef ALLOY_FUZZ_SEGMENT_IMAGE_H
#define ALLOY_FUZZ_SEGMENT_IMAGE_H

#include "alloy/segment.h"

#include <xxhash.h>

#define FILE_BYTES SEGMENT_BYTES_MIN
#define OLD 0x10u /* of a choice: as version 4 wrote it, with the marks in the records */

static char image[FILE_BYTES];

static size_t image_begin(unsigned choice)
{
    return (choice & OLD) ? SEGMENT_HEADER_BYTES : segment_begin(FILE_BYTES);
}

/* Begins the image with a header of the present version. */
static void image_put_header(const void *header, unsigned choice)
{
    struct segment_header *head = (struct segment_header *)image;

    memcpy(image, header, sizeof(*head));
    if ((choice & OLD) == 0)
        return;
    head->version = SEGMENT_VERSION_INLINE;
    head->header_bytes = SEGMENT_HEADER_BYTES;
    head->checksum = XXH3_64bits(head, offsetof(struct segment_header, checksum));
}

/* What begins at end or behind it is no record. Records that are written have marks of their own,
 * one after the other. */
__attribute__((no_sanitize("coverage"))) static void image_repair(unsigned choice, bool copies,
                                                                  size_t end)
{
    const size_t from = offsetof(struct record, lsn);
    size_t mark = SEGMENT_HEADER_BYTES;

    for (size_t at = image_begin(choice); at < end && at + sizeof(struct record) < FILE_BYTES;
         at += 8) {
        struct record *record = (struct record *)(image + at);
        const uint64_t place = (uint64_t)1 << 32 | at;
        size_t used;

        if (record->magic != ((choice & OLD) ? RECORD_MAGIC_INLINE : RECORD_MAGIC))
            continue;
        if (copies)
            record->copies |= 1;
        else
            record->lsn = place;
        used = sizeof(*record) + record->body_length % FILE_BYTES;
        if (record->id_offset == record->body_length)
            used += record->id_length;
        if (at + used > FILE_BYTES)
            continue;
        record->checksum =
            (uint32_t)(copies ? XXH3_64bits_withSeed(image + at + from, used - from, place)
                              : XXH3_64bits(image + at + from, used - from));
        if (choice & OLD)
            continue;
        record->mark_back = at - mark;
        record->checksum ^= (uint32_t)mark * UINT32_C(0x9e3779b1);
        mark += sizeof(struct record_mark);
    }
}

#endif
