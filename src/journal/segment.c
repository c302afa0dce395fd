/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment.c - files and mappings of the journal's segments, and the records in them.
 *
 * The store of written makes a record visible and comes last: a process that is killed in the
 * middle leaves 0 there, and nothing after it. After a power loss any pages may be missing, so a
 * reader trusts a record only when length, place and checksum agree.
 *
 * Runs on: creation on the janitor, rarely on a front-end thread; writing on the thread whose
 * writer holds the segment; reading at start, before there are other threads.
 * Owns: the mapping and the struct segment.
 */
#include "alloy/segment.h"

/* On x86 the library looks for AVX2 at run time; inlined, the checksum of a record would be made
 * with SSE2, in twice the time. */
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>
#else
#define XXH_INLINE_ALL
#include <xxhash.h>
#endif

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define SEGMENT_MAGIC "ALLOYSEG"
#define POPULATE_STEP ((size_t)2 << 20)

static size_t segment_page_round(size_t size)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (size + page - 1) / page * page;
}

/* Maps size bytes of fd (-1: anonymous memory) at a multiple of align; prot as for mmap(2). */
static char *segment_map_aligned(size_t size, size_t align, int fd, int prot)
{
    const size_t area_size = size + align;
    const int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    char *area =
        mmap(NULL, area_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char *base;
    size_t head;

    if (area == MAP_FAILED)
        return NULL;
    head = (size_t)(-(uintptr_t)area & (align - 1));
    base = area + head;
    if (mmap(base, size, prot, flags | MAP_FIXED, fd, 0) == MAP_FAILED) {
        const int err = errno;

        munmap(area, area_size);
        errno = err;
        return NULL;
    }
    /* Unmap the rest of the reservation: each piece would cost a mapping. */
    if (head > 0)
        munmap(area, head);
    if (head < align)
        munmap(base + size, align - head);
    return base;
}

/* Where records begin according to a header. */
static size_t segment_header_begin(const struct segment_header *header)
{
    return header->version <= SEGMENT_VERSION_INLINE ? SEGMENT_HEADER_BYTES
                                                     : segment_begin((size_t)header->size);
}

static void segment_set_begin(struct segment *segment, size_t begin)
{
    segment->begin = segment->sync_from = segment->synced = begin;
    atomic_store_explicit(&segment->cursor, begin, memory_order_relaxed);
}

/* What each of its records begins with. */
static uint32_t segment_magic(const struct segment *segment)
{
    return segment->begin == SEGMENT_HEADER_BYTES ? RECORD_MAGIC_INLINE : RECORD_MAGIC;
}

static uint64_t segment_header_checksum(const struct segment_header *header)
{
    return XXH3_64bits(header, offsetof(struct segment_header, checksum));
}

static uint32_t segment_record_checksum(const struct record *record, size_t used)
{
    const size_t from = offsetof(struct record, lsn);

    return (uint32_t)XXH3_64bits((const char *)record + from, used - from);
}

/* A copy's LSN does not say where it is, so its checksum includes the place: otherwise bytes of an
 * old copy could pass for a record here. */
static uint32_t segment_copy_checksum(const struct record *record, size_t used, uint64_t place)
{
    const size_t from = offsetof(struct record, lsn);

    return (uint32_t)XXH3_64bits_withSeed((const char *)record + from, used - from, place);
}

/* A record with the mark of another one would be taken for finished when that one is. */
static uint32_t segment_mark_checksum(const struct segment *segment, const struct record *record)
{
    const size_t place = segment_offset(segment, record) - (size_t)record->mark_back;

    return (uint32_t)place * UINT32_C(0x9e3779b1);
}

static void segment_write_header(struct segment *segment, const struct segment_spec *spec)
{
    struct segment_header *header = (struct segment_header *)segment->base;

    *header = (struct segment_header){
        .version = SEGMENT_VERSION,
        .header_bytes = (uint32_t)segment->begin,
        .number = segment->number,
        .stream_count = (uint16_t)spec->stream_count,
        .kind = (uint16_t)spec->kind,
        .size = segment->size,
        .instance_id = spec->instance_id,
        .segment = segment,
    };
    memcpy(header->magic, SEGMENT_MAGIC, sizeof(header->magic));
    memcpy(header->streams, spec->streams, spec->stream_count * sizeof(spec->streams[0]));
    header->checksum = segment_header_checksum(header);
}

static void segment_blocks_fini(struct segment_blocks *blocks)
{
    free(blocks->at);
    free(blocks->came);
    free(blocks->went);
    free(blocks->done);
}

static int segment_blocks_init(struct segment_blocks *blocks, size_t size, size_t streams)
{
    const size_t count = (size + SEGMENT_BLOCK - 1) / SEGMENT_BLOCK;

    *blocks = (struct segment_blocks){
        .streams = streams,
        .count = count,
        .at = calloc(count, sizeof(*blocks->at)),
        .came = calloc(count * streams + 1, sizeof(*blocks->came)),
        .went = calloc(count * streams + 1, sizeof(*blocks->went)),
        .done = calloc(streams + 1, sizeof(*blocks->done)),
    };
    if (blocks->at != NULL && blocks->came != NULL && blocks->went != NULL && blocks->done != NULL)
        return 0;
    segment_blocks_fini(blocks);
    return -ENOMEM;
}

static void segment_blocks_clear(struct segment_blocks *blocks)
{
    memset(blocks->at, 0, blocks->count * sizeof(*blocks->at));
    memset(blocks->came, 0, blocks->count * blocks->streams * sizeof(*blocks->came));
    memset(blocks->went, 0, blocks->count * blocks->streams * sizeof(*blocks->went));
    memset(blocks->done, 0, blocks->streams * sizeof(*blocks->done));
}

void segment_came(struct segment *segment, size_t offset, size_t stream, uint64_t received_ms)
{
    const size_t i = segment_block_of(offset);
    struct segment_block *block = &segment->blocks.at[i];
    _Atomic uint32_t *came = &segment->blocks.came[i * segment->blocks.streams + stream];
    const uint64_t oldest_ms = atomic_load_explicit(&block->oldest_ms, memory_order_relaxed);

    if (oldest_ms == 0)
        atomic_store_explicit(&block->offset, (uint32_t)offset, memory_order_relaxed);
    if (oldest_ms == 0 || received_ms < oldest_ms)
        atomic_store_explicit(&block->oldest_ms, received_ms, memory_order_relaxed);
    /* A plain addition, since only this thread writes it. release: pairs with the acquire in
     * segment_block_live(), whose caller then sees the block's offset and time */
    atomic_store_explicit(came, atomic_load_explicit(came, memory_order_relaxed) + 1,
                          memory_order_release);
}

uint32_t segment_block_live(const struct segment *segment, size_t block, size_t stream)
{
    const size_t i = block * segment->blocks.streams + stream;
    /* acquire: read this first, so that every record that went is also counted as come */
    const uint32_t went = atomic_load_explicit(&segment->blocks.went[i], memory_order_acquire);

    return atomic_load_explicit(&segment->blocks.came[i], memory_order_acquire) - went;
}

uint64_t segment_block_oldest(const struct segment *segment, size_t block, size_t stream)
{
    /* acquire: pairs with the release in journal_writer_append() */
    const size_t cursor = atomic_load_explicit(&segment->cursor, memory_order_acquire);
    const size_t end = (block + 1) * SEGMENT_BLOCK;
    size_t at = atomic_load_explicit(&segment->blocks.at[block].offset, memory_order_relaxed);
    uint64_t oldest_ms = 0;

    while (at >= segment->begin && at < end && at + sizeof(struct record) <= cursor) {
        const struct record *record = (const struct record *)(segment->base + at);

        /* A hole that recovery has passed over: what lies behind it in this block is not looked
         * at. */
        if (record->magic != segment_magic(segment) || record->length < sizeof(*record))
            break;
        at += record->length;
        /* One that recovery has set aside may say anything of its mark. */
        if (record->stream != stream || !segment_has_mark(segment, record) ||
            record_state(record) != RECORD_LIVE)
            continue;
        if (oldest_ms == 0 || record->received_ms < oldest_ms)
            oldest_ms = record->received_ms;
        /* They were received in the order in which they stand here; copies were not. */
        if (segment_kind(segment) == SEGMENT_EVENTS)
            break;
    }
    return oldest_ms;
}

/* Maps fd and returns a struct segment for it; NULL with errno set. */
static struct segment *segment_new(uint32_t number, const struct segment_spec *spec, size_t size,
                                   int fd, int prot)
{
    struct segment *segment = aligned_alloc(CACHE_LINE, sizeof(*segment));
    struct stat st = {0};

    if (segment == NULL)
        return NULL;
    if (fd >= 0 && fstat(fd, &st) != 0) {
        free(segment);
        return NULL;
    }
    *segment = (struct segment){
        .base = segment_map_aligned(size, spec->align, fd, prot),
        .size = size,
        .limit = size,
        .number = number,
        .inode = st.st_ino,
        /* One page of marks is of many records: no need to take its fault ahead. */
        .populated = segment_begin(size) & ~(segment_page_round(1) - 1),
        .marks_synced = SEGMENT_HEADER_BYTES,
    };
    segment_set_begin(segment, segment_begin(size));
    if (segment->base == NULL) {
        free(segment);
        return NULL;
    }
    if (segment_blocks_init(&segment->blocks, size, spec->stream_count) != 0) {
        munmap(segment->base, size);
        free(segment);
        errno = ENOMEM;
        return NULL;
    }
    return segment;
}

static int segment_allocate_file(int fd, size_t size)
{
    int err;

    do {
        err = posix_fallocate(fd, 0, (off_t)size);
    } while (err == EINTR);
    return -err;
}

/* Syncs the file under its temporary name, then gives it its real name. */
static int segment_publish_file(const struct segment_spec *spec, int fd, const char *tmp,
                                const char *name)
{
    if (spec->sync && fsync(fd) != 0)
        return -errno;
    if (renameat(spec->dir_fd, tmp, spec->dir_fd, name) != 0)
        return -errno;
    if (spec->sync && fsync(spec->dir_fd) != 0) {
        const int err = -errno;

        unlinkat(spec->dir_fd, name, 0);
        return err;
    }
    return 0;
}

static int segment_create_file(struct segment **segment, const struct segment_spec *spec,
                               uint32_t number)
{
    char tmp[SEGMENT_NAME_MAX], name[SEGMENT_NAME_MAX];
    int fd, err;

    segment_name(tmp, number, "tmp");
    segment_name(name, number, "alj");
    fd = openat(spec->dir_fd, tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    err = segment_allocate_file(fd, spec->size);
    if (err != 0)
        goto remove_file;
    *segment = segment_new(number, spec, spec->size, fd, PROT_READ | PROT_WRITE);
    if (*segment == NULL) {
        err = -errno;
        goto remove_file;
    }
    segment_write_header(*segment, spec);
    err = segment_publish_file(spec, fd, tmp, name);
    if (err != 0)
        goto unmap;
    close(fd);
    return 0;

unmap:
    segment_close(*segment);
remove_file:
    unlinkat(spec->dir_fd, tmp, 0);
    close(fd);
    return err;
}

/* Whether an intact header is of a version that we cannot read. Magic, version and checksum are in
 * the same place in all versions. */
static bool segment_header_foreign(const struct segment_header *header)
{
    return memcmp(header->magic, SEGMENT_MAGIC, sizeof(header->magic)) == 0 &&
           (header->version < SEGMENT_VERSION_MIN || header->version > SEGMENT_VERSION) &&
           header->checksum == segment_header_checksum(header);
}

/* Whether a header from the file of this number is valid. */
static bool segment_header_valid(const struct segment_header *header,
                                 const struct segment_spec *spec, uint32_t number)
{
    if (memcmp(header->magic, SEGMENT_MAGIC, sizeof(header->magic)) != 0 ||
        header->version < SEGMENT_VERSION_MIN || header->version > SEGMENT_VERSION ||
        header->checksum != segment_header_checksum(header))
        return false;
    if (header->number != number || header->instance_id != spec->instance_id ||
        header->size < SEGMENT_BYTES_MIN || header->size > SEGMENT_BYTES_MAX ||
        header->header_bytes != segment_header_begin(header) ||
        header->stream_count > SEGMENT_STREAMS_MAX ||
        header->kind > (header->version == SEGMENT_VERSION_MIN ? SEGMENT_EVENTS : SEGMENT_COPIES))
        return false;
    for (size_t i = 0; i < header->stream_count; i++)
        if (memchr(header->streams[i], '\0', SEGMENT_STREAM_NAME) == NULL)
            return false;
    return true;
}

/* peek: maps read-only, at any address. */
static int segment_open_file(struct segment **segment, const struct segment_spec *spec,
                             uint32_t number, int fd, bool peek)
{
    struct segment_spec own = *spec;
    struct segment_header header;
    struct stat st;
    size_t size;
    ssize_t got;

    if (fstat(fd, &st) != 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_size < SEGMENT_HEADER_BYTES)
        return -EBADMSG;
    got = pread(fd, &header, sizeof(header), 0);
    if (got < 0)
        return -errno;
    if (got == (ssize_t)sizeof(header) && segment_header_foreign(&header))
        return -EPROTO;
    if (got != (ssize_t)sizeof(header) || !segment_header_valid(&header, spec, number))
        return -EBADMSG;
    /* Touching a page past the end of the file would kill us with SIGBUS. */
    size = (uint64_t)st.st_size < header.size ? (size_t)st.st_size : (size_t)header.size;
    if (size < header.header_bytes)
        return -EBADMSG;
    if (peek)
        own.align = segment_align(segment_page_round(size));
    if (segment_page_round(size) > own.align)
        return -EBADMSG;
    *segment = segment_new(number, &own, segment_page_round(size), fd,
                           PROT_READ | (peek ? 0 : PROT_WRITE));
    if (*segment == NULL)
        return -errno;
    segment_set_begin(*segment, header.header_bytes);
    (*segment)->life = SEGMENT_RECOVERING;
    (*segment)->limit = size & ~(size_t)(RECORD_ALIGN - 1);
    /* We are about to read all of it; without this a cold file is read page by page. */
    (void)madvise((*segment)->base, (*segment)->size, MADV_WILLNEED);
    if (!peek)
        ((struct segment_header *)(*segment)->base)->segment = *segment;
    return 0;
}

bool segment_has_mark(const struct segment *segment, const struct record *record)
{
    const size_t offset = segment_offset(segment, record);
    const size_t place = offset - (size_t)record->mark_back;

    if (record->magic != segment_magic(segment))
        return false;
    if (record->magic == RECORD_MAGIC_INLINE)
        return true;
    return record->mark_back <= offset - SEGMENT_HEADER_BYTES &&
           place <= segment->begin - sizeof(struct record_mark) &&
           place % sizeof(struct record_mark) == 0;
}

struct record *segment_record_at(const struct segment *segment, size_t offset)
{
    const struct segment_header *header = (const struct segment_header *)segment->base;
    struct record *record = (struct record *)(segment->base + offset);
    const size_t room = segment->limit - offset;
    const uint64_t place = segment_lsn(segment, offset);
    size_t id_bytes, used;
    uint32_t checksum;

    if (room < sizeof(*record) || !segment_has_mark(segment, record) ||
        (record->copies > 0) != (header->kind == SEGMENT_COPIES) ||
        (record->copies == 0 && record->lsn != place))
        return NULL;
    if (record->length > room || record->body_length == 0 || record->body_length > room ||
        record->stream_entry >= header->stream_count ||
        record->columns_length >= record->body_length)
        return NULL;
    if (record->id_offset == record->body_length)
        id_bytes = record->id_length;
    else if ((uint64_t)record->id_offset + record->id_length <= record->body_length)
        id_bytes = 0;
    else
        return NULL;
    if (record->length != record_bytes(record->body_length, id_bytes))
        return NULL;
    /* A record without its last store was never acknowledged. */
    if (atomic_load_explicit(&record->written, memory_order_relaxed) == 0)
        return NULL;
    used = sizeof(*record) + record->body_length + id_bytes;
    checksum = record->copies == 0 ? segment_record_checksum(record, used)
                                   : segment_copy_checksum(record, used, place);
    if (record->magic == RECORD_MAGIC)
        checksum ^= segment_mark_checksum(segment, record);
    return record->checksum == checksum ? record : NULL;
}

enum record_state record_state_of(uint16_t word)
{
    static const enum record_state states[] = {RECORD_LIVE, RECORD_INSERTED, RECORD_DUPLICATE,
                                               RECORD_DEAD, RECORD_REFUSED,  RECORD_MOVED};

    for (size_t i = 0; i < ARRAY_LEN(states); i++)
        if (__builtin_popcount((unsigned)(word ^ states[i])) <= 3)
            return states[i];
    return (enum record_state)0;
}

void segment_enter(struct segment *segment, enum segment_life life)
{
    static const unsigned allowed[] = {
        [SEGMENT_SPARE] = 1u << SEGMENT_FILLING,
        [SEGMENT_FILLING] = 1u << SEGMENT_SEALED,
        [SEGMENT_RECOVERING] = 1u << SEGMENT_SEALED,
        [SEGMENT_SEALED] = 1u << SEGMENT_VACATING | 1u << SEGMENT_FINISHED,
        [SEGMENT_VACATING] = 1u << SEGMENT_SEALED | 1u << SEGMENT_FINISHED,
        [SEGMENT_FINISHED] = 1u << SEGMENT_SPARE,
    };
    const uint64_t refs = atomic_load_explicit(&segment->refs, memory_order_relaxed);

    ALLOY_ASSERT(allowed[segment_life(segment)] >> life & 1);
    switch (life) {
    case SEGMENT_SPARE:
    case SEGMENT_FINISHED:
        ALLOY_ASSERT(refs == 0);
        break;
    case SEGMENT_FILLING:
        ALLOY_ASSERT(refs == SEGMENT_BIAS);
        break;
    case SEGMENT_SEALED: /* its writer gives up its hold after this, and must not touch it then */
        break;
    case SEGMENT_VACATING:
        ALLOY_ASSERT(refs < SEGMENT_BIAS);
        break;
    case SEGMENT_RECOVERING:
        ALLOY_UNREACHABLE("a segment is opened as this");
    }
    /* release: pairs with the acquire in segment_life() */
    atomic_store_explicit(&segment->life, (uint8_t)life, memory_order_release);
}

size_t segment_align(size_t size)
{
    size_t align = SEGMENT_BYTES_MIN;

    while (align < size)
        align *= 2;
    return align;
}

int segment_create(struct segment **segment, const struct segment_spec *spec, uint32_t number)
{
    ALLOY_ASSERT(spec->size == segment_page_round(spec->size) && spec->size <= spec->align);
    if (spec->dir_fd >= 0)
        return segment_create_file(segment, spec, number);
    *segment = segment_new(number, spec, spec->size, -1, PROT_READ | PROT_WRITE);
    if (*segment == NULL)
        return -errno;
    segment_write_header(*segment, spec);
    return 0;
}

void segment_renew(struct segment *segment, const struct segment_spec *spec, uint32_t number)
{
    ALLOY_ASSERT(spec->dir_fd < 0 && segment->refs == 0);
    segment->number = number;
    segment->stamp.round = segment->marks.round = 0;
    memset(segment->base + SEGMENT_HEADER_BYTES, 0,
           segment_marks_end(segment) - SEGMENT_HEADER_BYTES);
    atomic_store_explicit(&segment->marked, 0, memory_order_relaxed);
    segment->sealed_ms = 0;
    segment_blocks_clear(&segment->blocks);
    segment_set_begin(segment, segment->begin);
    segment_write_header(segment, spec);
}

static int segment_open_named(struct segment **segment, const struct segment_spec *spec,
                              uint32_t number, bool peek)
{
    const int mode = peek ? O_RDONLY : O_RDWR;
    char name[SEGMENT_NAME_MAX];
    int fd, err;

    segment_name(name, number, "alj");
    fd = openat(spec->dir_fd, name, mode | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    err = segment_open_file(segment, spec, number, fd, peek);
    close(fd);
    return err;
}

int segment_open(struct segment **segment, const struct segment_spec *spec, uint32_t number)
{
    return segment_open_named(segment, spec, number, false);
}

int segment_peek(struct segment **segment, const struct segment_spec *spec, uint32_t number)
{
    return segment_open_named(segment, spec, number, true);
}

/* Reads the header of a file. False: there is none, or it is broken, or cut off behind it. */
static bool segment_read_header(struct segment_header *header, const struct segment_spec *spec,
                                uint32_t number)
{
    char name[SEGMENT_NAME_MAX];
    struct stat st;
    bool valid;
    int fd;

    segment_name(name, number, "alj");
    fd = openat(spec->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return false;
    valid = pread(fd, header, sizeof(*header), 0) == (ssize_t)sizeof(*header) &&
            segment_header_valid(header, spec, number) && fstat(fd, &st) == 0 &&
            st.st_size >= (off_t)header->header_bytes;
    close(fd);
    return valid;
}

enum segment_kind segment_file_kind(const struct segment_spec *spec, uint32_t number)
{
    struct segment_header header;

    return segment_read_header(&header, spec, number) ? (enum segment_kind)header.kind
                                                      : SEGMENT_EVENTS;
}

size_t segment_file_begin(const struct segment_spec *spec, uint32_t number)
{
    struct segment_header header;

    return segment_read_header(&header, spec, number) ? header.header_bytes : 0;
}

void segment_close(struct segment *segment)
{
    munmap(segment->base, segment->size);
    segment_blocks_fini(&segment->blocks);
    free(segment);
}

int segment_unlink(int dir_fd, uint32_t number)
{
    char name[SEGMENT_NAME_MAX];

    segment_name(name, number, "alj");
    return unlinkat(dir_fd, name, 0) == 0 ? 0 : -errno;
}

void segment_name(char *name, uint32_t number, const char *suffix)
{
    snprintf(name, SEGMENT_NAME_MAX, "segment-%010u.%s", number, suffix);
}

void segment_populate(struct segment *segment, size_t upto)
{
    size_t from = atomic_load_explicit(&segment->populated, memory_order_relaxed);

    if (upto > segment->size)
        upto = segment->size;
    while (from < upto) {
        const size_t left = segment->size - from;
        const size_t step = left < POPULATE_STEP ? left : POPULATE_STEP;

        /* A kernel without it (before 5.14) just leaves the faults to the writer. */
        if (madvise(segment->base + from, step, MADV_POPULATE_WRITE) != 0)
            from = segment->size;
        else
            from += step;
        /* relaxed: only a hint for the writer */
        atomic_store_explicit(&segment->populated, from, memory_order_relaxed);
    }
}

/* Gives a record its mark, which is still zero. */
static void segment_give_mark(struct segment *segment, struct record *record)
{
    const size_t place = segment_marks_end(segment);

    ALLOY_ASSERT(place < segment->begin);
    record->mark_back = segment_offset(segment, record) - place;
    /* A plain addition, since only this thread writes it. */
    atomic_store_explicit(&segment->marked,
                          atomic_load_explicit(&segment->marked, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

struct record *segment_write(struct segment *segment, size_t offset,
                             const struct record_parts *parts)
{
    struct record *record = (struct record *)(segment->base + offset);
    const size_t body_length = parts->columns.len + parts->text.len + 1;
    char *body = record->body;
    const size_t id_bytes = parts->id_verbatim ? 0 : parts->id.len;

    record->magic = RECORD_MAGIC;
    record->length = (uint32_t)record_bytes(body_length, id_bytes);
    record->stream = parts->stream;
    segment_give_mark(segment, record);
    record->lsn = (uint64_t)segment->number << 32 | offset;
    record->received_ms = parts->received_ms;
    record->hash = parts->hash;
    record->body_length = (uint32_t)body_length;
    record->id_offset =
        (uint32_t)(parts->id_verbatim
                       ? (size_t)(parts->id.data - parts->text.data) + parts->columns.len
                       : body_length);
    record->id_length = (uint16_t)parts->id.len;
    record->stream_entry = parts->stream;
    record->copies = 0;
    record->columns_length = (uint16_t)parts->columns.len;
    if (unlikely(parts->columns.len > 0)) {
        body[0] = '{';
        memcpy(body + 1, parts->columns.data, parts->columns.len);
        body += parts->columns.len;
        memcpy(body + 1, parts->text.data + 1, parts->text.len - 1);
    } else {
        memcpy(body, parts->text.data, parts->text.len);
    }
    body[parts->text.len] = '\n';
    memcpy(record->body + body_length, parts->id.data, id_bytes);
    record->checksum =
        segment_record_checksum(record, sizeof(struct record) + body_length + id_bytes) ^
        segment_mark_checksum(segment, record);
    /* release: a kill between any two stores leaves a record that is not written, or a whole one */
    atomic_store_explicit(&record->written, RECORD_LIVE, memory_order_release);
    return record;
}

struct record *segment_copy(struct segment *segment, size_t offset, const struct record *record)
{
    struct record *copy = (struct record *)(segment->base + offset);
    const bool verbatim = record->id_offset != record->body_length;
    const size_t used = sizeof(*copy) + record->body_length + (verbatim ? 0 : record->id_length);

    copy->magic = RECORD_MAGIC;
    copy->length = record->length;
    copy->stream = record->stream;
    segment_give_mark(segment, copy);
    record_set_insert_id(copy, record_insert_word(record));
    /* From its LSN on, a copy equals its original, except for what depends on the segment. */
    memcpy(&copy->lsn, &record->lsn, used - offsetof(struct record, lsn));
    copy->stream_entry = record->stream;
    copy->copies = (uint16_t)(record->copies + 1);
    copy->checksum = segment_copy_checksum(copy, used, segment_lsn(segment, offset)) ^
                     segment_mark_checksum(segment, copy);
    /* release: as in segment_write() */
    atomic_store_explicit(&copy->written, RECORD_LIVE, memory_order_release);
    return copy;
}

enum segment_step segment_next(const struct segment *segment, size_t *offset,
                               struct record **record)
{
    bool zeros = true;

    *record = segment_record_at(segment, *offset);
    if (*record != NULL) {
        *offset += (*record)->length;
        return SEGMENT_RECORD;
    }
    for (size_t at = *offset; at + RECORD_ALIGN <= segment->limit; at += RECORD_ALIGN) {
        uint64_t word;

        memcpy(&word, segment->base + at, sizeof(word));
        if (word == 0)
            continue;
        zeros = false;
        if ((uint32_t)word == segment_magic(segment) && segment_record_at(segment, at) != NULL) {
            *offset = at;
            return SEGMENT_GAP;
        }
    }
    return zeros ? SEGMENT_END : SEGMENT_TORN;
}
