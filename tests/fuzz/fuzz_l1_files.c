/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_l1_files.c - any bytes in the files of known ids, read as at a start, and what the life
 * after that hands on to the next one.
 *
 * The first byte chooses what is repaired so that the checks behind it are reached: bit 0, state
 * file: magic, version, instance and a clean end; bit 1, the account in it; bit 2, headers of
 * slabs, of the version that their bytes say; bit 3, the times in slabs. Bit 4: the first life goes
 * on until all that it was told has expired. Then the state file's bytes, then slabs, each with its
 * length before it.
 *
 * The folder is folder_fixture.h's, and a grace period is over at once.
 */
#include "alloy/l1.h"

#include "alloy/log.h"
#include "l1_files.h"

#include "folder_fixture.h"

#define INSTANCE 0x1122334455667788ull
#define STATE_BYTES 96
#define REAL_MS 1000000000ull
#define TTL_MS 60000ull
#define CAPACITY 64
#define SLABS_MAX 4
#define STAMP_MASK ((1ull << L1_STAMP_BITS) - 1)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void urcu_memb_synchronize_rcu(void);

/* What the files hold, as far as we have made them right. */
struct written {
    uint8_t *slabs[SLABS_MAX]; /* owned */
    size_t counts[SLABS_MAX];  /* of entries */
    size_t count;
    bool all_good; /* every byte of every file was made right */
};

/* There is no other thread to wait for. */
void urcu_memb_synchronize_rcu(void)
{
}

/* docs/JOURNAL_FORMAT.md has the places. */
static void write_state(const uint8_t *data, unsigned repairs, size_t slabs)
{
    uint8_t state[STATE_BYTES];
    const uint32_t one = 1;
    const uint64_t instance = INSTANCE, files = slabs;

    memcpy(state, data, STATE_BYTES);
    if (repairs & 1) {
        memcpy(state, "ALLOYL1S", 8);
        memcpy(state + 8, &one, 4);
        memcpy(state + 16, &instance, 8);
        memcpy(state + 60, &one, 4);
    }
    if (repairs & 2) {
        memset(state + 64, 0, STATE_BYTES - 64);
        memcpy(state + 64, &files, 8);
    }
    folder_write("l1-state", state, STATE_BYTES, STATE_BYTES);
}

/* How long before the last id of the slab an entry says that its id was added, as in
 * docs/JOURNAL_FORMAT.md. */
static uint64_t age_ms(const struct l1_slab *slab, const struct l1_entry *entry)
{
    const uint64_t steps = ((slab->youngest_ms >> slab->stamp_shift) - entry->hi) & STAMP_MASK;

    /* The half that is ahead: another thread's clock. */
    return steps == 0 || steps > STAMP_MASK / 2 ? 0 : ((steps - 1) << slab->stamp_shift) + 1;
}

/* Makes a time within the ttl out of the slab's, and has no entry that is older than that. */
static void repair_times(struct l1_slab *slab)
{
    slab->youngest_ms = REAL_MS - slab->youngest_ms % TTL_MS;
    if (slab->version == 1)
        return;
    for (size_t i = 0; i < slab->capacity; i++) {
        struct l1_entry *entry = &slab->entries[i];

        if (REAL_MS - slab->youngest_ms + age_ms(slab, entry) >= TTL_MS)
            entry->hi =
                (entry->hi & ~STAMP_MASK) | (slab->youngest_ms >> slab->stamp_shift & STAMP_MASK);
    }
}

/* Writes one slab out of len bytes. */
static void write_slab(const uint8_t *data, size_t len, unsigned repairs, struct written *written)
{
    const size_t header = sizeof(struct l1_slab);
    const size_t entries = len > header ? (len - header) / sizeof(struct l1_entry) : 0;
    uint8_t *copy = malloc(len > header ? len : header);
    struct l1_slab *slab = (struct l1_slab *)copy;
    char name[32];

    ALLOY_ASSERT(copy != NULL);
    memset(copy, 0, header);
    memcpy(copy, data, len);
    if ((repairs & 4) && entries > 0) {
        memcpy(slab->magic, "ALLOYL1G", 8);
        slab->version = slab->version % 2 == 1 ? 1 : L1_SLAB_VERSION;
        slab->entry_bytes = sizeof(struct l1_entry);
        slab->instance_id = INSTANCE;
        slab->capacity = entries;
        slab->stamp_shift %= 64 - L1_STAMP_BITS;
        if (repairs & 8)
            repair_times(slab);
        len = l1_slab_bytes(entries);
    }
    snprintf(name, sizeof(name), "l1-%03zu.gen", written->count + 1);
    folder_write(name, copy, len, len);
    written->all_good = written->all_good && entries > 0;
    written->slabs[written->count] = copy;
    written->counts[written->count] = entries;
    written->count++;
}

static void write_files(const uint8_t *data, size_t size, struct written *written)
{
    const unsigned repairs = data[0];
    const uint8_t *state = data + 1;
    size_t at = 1 + STATE_BYTES;

    *written = (struct written){.all_good = (repairs & 15) == 15};
    while (at + 2 < size && written->count < SLABS_MAX) {
        size_t len = (size_t)data[at] << 3;

        at++;
        if (len > size - at)
            len = size - at;
        write_slab(data + at, len, repairs, written);
        at += len;
    }
    write_state(state, repairs, written->count);
}

static struct l1 *begin(struct l1_loaded *loaded)
{
    const struct l1_folder place = {
        .dir_fd = FOLDER_FD, .instance_id = INSTANCE, .real_ms = REAL_MS};
    struct l1 *l1 = l1_create(CAPACITY, TTL_MS, 0);

    ALLOY_ASSERT(l1 != NULL);
    ALLOY_ASSERT(l1_attach(l1, &place, 0, loaded) == 0);
    /* What had to make room and had expired by then has not been evicted. */
    ALLOY_ASSERT(l1_entries(l1) + l1_evicted(l1) <= loaded->ids);
    ALLOY_ASSERT(l1_entries(l1) <= CAPACITY + CAPACITY / 8);
    return l1;
}

/* Whether every id of good files is known. */
static void check_known(struct l1 *l1, const struct written *written)
{
    struct l1_thread *thread = l1_thread_create(l1);

    ALLOY_ASSERT(thread != NULL);
    for (size_t s = 0; s < written->count; s++) {
        const struct l1_slab *slab = (const struct l1_slab *)written->slabs[s];

        for (size_t i = 0; i < written->counts[s]; i++) {
            const struct hash128 hash = {slab->entries[i].lo, slab->entries[i].hi};
            uint64_t lsn;

            if (hash.lo == 0 && (hash.hi & ~STAMP_MASK) == 0)
                continue;
            ALLOY_ASSERT(l1_contains(thread, &hash) && l1_owner(thread, &hash, &lsn));
        }
    }
    l1_thread_destroy(thread);
}

/* The life that reads the files; returns how many ids it hands on. */
static size_t live(const uint8_t *data, const struct written *written, bool *lossless)
{
    struct l1_loaded loaded;
    struct l1 *l1 = begin(&loaded);
    size_t entries;

    if (loaded.complete)
        ALLOY_ASSERT((data[0] & 1) != 0 || memcmp(data + 1, "ALLOYL1S", 8) == 0);
    *lossless = written->all_good && l1_evicted(l1) == 0;
    if (written->all_good)
        ALLOY_ASSERT(loaded.complete && l1_entries(l1) + l1_evicted(l1) == loaded.ids);
    if (*lossless)
        check_known(l1, written);
    l1_mark_complete(l1);
    if (data[0] & 16) {
        /* Whatever the files say, no id is known for longer than from now on. */
        l1_maintain(l1, TTL_MS);
        ALLOY_ASSERT(l1_entries(l1) == 0);
        *lossless = false;
    }
    entries = l1_entries(l1);
    l1_destroy(l1);
    return entries;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct written written;
    struct l1_loaded again;
    bool lossless;
    struct l1 *l1;
    size_t entries;

    if (size < 1 + STATE_BYTES)
        return 0;
    log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT);
    write_files(data, size, &written);
    entries = live(data, &written, &lossless);

    /* The next life misses what was so old that it had expired by itself, and nothing else. */
    l1 = begin(&again);
    ALLOY_ASSERT(again.complete && again.ids <= entries);
    if (entries <= CAPACITY)
        ALLOY_ASSERT(l1_entries(l1) == again.ids && l1_evicted(l1) == 0);
    if (lossless) {
        ALLOY_ASSERT(again.ids == entries);
        if (l1_evicted(l1) == 0)
            check_known(l1, &written);
    }
    l1_destroy(l1);
    folder_empty();
    for (size_t i = 0; i < written.count; i++)
        free(written.slabs[i]);
    return 0;
}
