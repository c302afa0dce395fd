/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h - reads, checks, dumps and compares the configuration.
 *
 * A struct config is constant once loaded. A reload loads a new one and publishes it through a
 * struct config_ref; threads read config_current() whenever they use a RELOAD key and never keep
 * the pointer across a wait. Replaced configurations are kept until the process ends (a few KiB
 * for each HUP), so no reader needs a lock.
 */
#ifndef ALLOY_CONFIG_H
#define ALLOY_CONFIG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "alloy/base.h"
#include "alloy/keys.h"
#include "alloy/networks.h"
#include "alloy/tls.h"

#define CONFIG_STREAMS_MAX 64
#define CONFIG_STREAM_NAME_MAX 63 /* [A-Za-z0-9_-]+ */
#define CONFIG_PATHS_MAX 16
#define CONFIG_ID_FIELDS_MAX 8
#define CONFIG_ID_SOURCES_MAX 16 /* of all fields together */
#define CONFIG_KEY_MEMBERS_MAX 8
#define CONFIG_COLUMNS_MAX 16
#define CONFIG_NAME_MAX 255 /* bytes of a database's, table's or column's name */
#define CONFIG_NAME_TEXT_MAX (4 * CONFIG_NAME_MAX + 2) /* of it as somebody writes it */
#define CONFIG_COLUMN_MEMBER_MAX 760                   /* of a column's name as JSON */
#define CONFIG_ANSWER_MAX 1024
#define CONFIG_SETTINGS_MAX 64
#define CONFIG_LISTEN_MAX 16

enum config_redis_layout { CONFIG_REDIS_KEYS, CONFIG_REDIS_PACKED };
enum config_redis_on_failure { CONFIG_REDIS_PASS, CONFIG_REDIS_HOLD };
enum config_async_insert { CONFIG_ASYNC_AUTO, CONFIG_ASYNC_ON, CONFIG_ASYNC_OFF };
enum config_journal_mode { CONFIG_JOURNAL_FILE, CONFIG_JOURNAL_MEMORY };
enum config_journal_sync { CONFIG_SYNC_NEVER, CONFIG_SYNC_INTERVAL, CONFIG_SYNC_ALWAYS };

enum config_log_requests { CONFIG_LOG_OFF, CONFIG_LOG_REFUSED, CONFIG_LOG_ALL };

enum config_id_kind {
    CONFIG_ID_MEMBER,  /* of the event: name */
    CONFIG_ID_POINTER, /* a JSON Pointer into the event: name, from its '/' */
    CONFIG_ID_HEADER,  /* of the request: name, in lower case */
    CONFIG_ID_PERCENT, /* the same, and its value is percent-encoded */
};
/* Where a field of an event's id may come from: the first source of a field that is there counts.
 */
struct config_id_source {
    enum config_id_kind kind;
    char *name;
    size_t field; /* from 0, never less than that of the source before */
};

enum config_schema { CONFIG_SCHEMA_OFF, CONFIG_SCHEMA_WARN, CONFIG_SCHEMA_REFUSE };
enum config_missing_id { CONFIG_MISSING_REFUSE, CONFIG_MISSING_GENERATE, CONFIG_MISSING_HASH };

enum config_column_kind {
    CONFIG_COLUMN_RECEIVED_AT,
    CONFIG_COLUMN_CLIENT_ADDRESS,
    CONFIG_COLUMN_USER_AGENT,
    CONFIG_COLUMN_KEY,
    CONFIG_COLUMN_PATH,
    CONFIG_COLUMN_HEADER,
    CONFIG_COLUMN_PERCENT, /* a header whose value is percent-encoded */
    CONFIG_COLUMN_QUERY,
    CONFIG_COLUMN_ENVELOPE,
};
/* A column that the request fills. */
struct config_column {
    char *name;
    enum config_column_kind kind;
    char *argument; /* HEADER, PERCENT: in lower case; QUERY; ENVELOPE: name or JSON Pointer; else
                       NULL */
    char *member;   /* the name as a member of a JSON object: in quotes, escaped, and a colon */
};

/* One [stream.NAME] section. */
struct config_stream {
    char *name;
    char *preset;                  /* NULL: none */
    char *paths[CONFIG_PATHS_MAX]; /* begin with '/', and do not end with it; one that ends with
                                    * a star takes all below */
    size_t path_count;             /* at least 1 */
    char *database;                /* of table = db.table, unquoted */
    char *table;
    char *table_text; /* both, for people and as SQL: db.table, in back-quotes where needed */
    char *events;     /* the member whose array holds the events; NULL: none */
    char *proof;      /* the column that holds the insert's token; NULL: none */
    struct config_id_source ids[CONFIG_ID_SOURCES_MAX];
    size_t id_count;                           /* sources, at least 1 */
    char *key_members[CONFIG_KEY_MEMBERS_MAX]; /* of the body, that may hold a key: names, or JSON
                                                * Pointers from their '/' */
    size_t key_member_count;
    int missing_id; /* enum config_missing_id */
    bool partial;
    int schema;           /* enum config_schema */
    bool refuse_unknown;  /* with schema = refuse: on_unknown = refuse */
    bool refuse_missing;  /* the same of on_missing */
    int answer_status;    /* of success; 0: the usual answer */
    char *answer;         /* its body; NULL: with answer_status 0 */
    char *answer_verbose; /* the same for a request with verbose=1 in its query; NULL: answer */
    bool column_yields;   /* column_conflict = event */
    struct config_column columns[CONFIG_COLUMNS_MAX];
    size_t column_count;
    uint64_t ttl_ms; /* resolved: the stream's own or redis.ttl */
    bool removed;    /* since the start, and without paths; its events still go to its table */
    bool shared;     /* its texts belong to a configuration of before */
};

/* clickhouse.setting.NAME = VALUE */
struct config_setting {
    char *name;
    char *value;
};

enum config_address_kind { CONFIG_ADDRESS_TCP, CONFIG_ADDRESS_UNIX };
struct config_address {
    enum config_address_kind kind;
    bool tls;   /* of server.tls_listen */
    char *host; /* TCP: name or number, without brackets; unix: the path */
    char *port; /* TCP only */
};

struct config {
#define KEY_STR(section, key, default_text, reload, help) char *section##_##key;
#define KEY_UINT(section, key, default_text, min, max, reload, help) uint64_t section##_##key;
#define KEY_AUTO(section, key, min, max, reload, help) uint64_t section##_##key;
#define KEY_SIZE(section, key, default_text, min, max, reload, help) \
    uint64_t section##_##key##_bytes;
#define KEY_AUTO_SIZE(section, key, min, max, reload, help) uint64_t section##_##key##_bytes;
#define KEY_MSEC(section, key, default_text, min, max, reload, help) uint64_t section##_##key##_ms;
#define KEY_BOOL(section, key, default_text, reload, help) bool section##_##key;
#define KEY_ENUM(section, key, default_text, words, reload, help) int section##_##key;
#include "alloy/config_keys.def"
    /* resolved: `auto` threads and max_bytes hold their numbers. This one is the password, or the
     * first line of password_file; it is never dumped. */
    char *clickhouse_password_resolved;
    struct config_stream streams[CONFIG_STREAMS_MAX]; /* in the order of the file */
    size_t stream_count;
    struct config_setting settings[CONFIG_SETTINGS_MAX];
    size_t setting_count;
    struct config_address server_addresses[CONFIG_LISTEN_MAX]; /* of listen, then tls_listen */
    size_t server_address_count;
    struct config_address admin_addresses[CONFIG_LISTEN_MAX]; /* none: no admin port */
    size_t admin_address_count;
    struct networks *trusted_proxies; /* server_trusted_proxies; NULL: none */
    struct keys *keys;                /* NULL: auth.keys_file is empty, and everybody may send */
    struct tls *tls;                  /* NULL: server.tls_listen is empty */
    bool has_admin_key;               /* there is an admin.key_file */
    unsigned char admin_key_hash[KEYS_HASH_BYTES]; /* keys_hash() of its first line */
    struct config_places *places;                  /* for config_print_place() */
    struct config *replaced; /* after a reload: the configuration before this one */
};

/*
 * Reads path, then the overrides ("SECTION.KEY=VALUE" each), checks everything and resolves `auto`
 * from cpu_count. Writes each problem to problems as "FILE:LINE: message"; the place of an override
 * is "--set SECTION.KEY=VALUE", and a missing or unreadable file is named without a line. Returns
 * owned (config_destroy()), or NULL when there was any problem. What is no problem, but hardly
 * meant, is written there too, as "FILE:LINE: warning: message".
 */
struct config *config_load(const char *path, const char *const *overrides, size_t override_count,
                           size_t cpu_count, FILE *problems);
void config_destroy(struct config *config); /* NULL is fine; frees replaced ones too */
/* Whether each event's id is made of its own members, and of nothing else. */
bool config_id_is_in_event(const struct config_stream *stream);

/*
 * Writes where a key was given, as problems are told: "FILE:LINE: "; "--set SECTION.KEY=VALUE: ";
 * or "FILE: " for a default. key is "redis.url", or a stream's: "stream.NAME.table". The overrides
 * of config_load() must still be there.
 */
void config_print_place(const struct config *config, const char *key, FILE *out);

/* Writes the effective configuration as an INI file that can be read back; secrets are masked. */
void config_dump(const struct config *config, FILE *out);

/*
 * Compares two configurations key by key. Calls changed for each key that differs, with
 * restart = true where the new value takes effect only after a restart. Streams and settings count
 * as keys named "stream.NAME" (new, or removed), "stream.NAME.path" and "clickhouse.setting.NAME".
 */
typedef void (*config_changed_fn)(void *arg, const char *key, bool restart);
void config_compare(const struct config *before, const struct config *after,
                    config_changed_fn changed, void *arg);

/* False: streams are new, removed or changed. */
bool config_same_streams(const struct config *before, const struct config *after);

/* The configuration that is in force. */
struct config_ref {
    _Atomic(struct config *) current;
};

/* Lends the configuration in force; valid until the process ends. Any thread, lock-free. */
static inline const struct config *config_current(const struct config_ref *ref)
{
    /* acquire: pairs with the release in config_publish() */
    return atomic_load_explicit(&((struct config_ref *)ref)->current, memory_order_acquire);
}

/* How long a claim of the stream may last: with tables of claims, until its table ends. */
static inline uint64_t config_claim_ms(const struct config *config, size_t stream)
{
    const uint64_t ttl_ms = config->streams[stream].ttl_ms;

    return config->redis_layout == CONFIG_REDIS_PACKED ? 2 * ttl_ms + ttl_ms / 10 : ttl_ms;
}

/*
 * Takes next and puts it in force. First sets the RESTART keys in it back to the values in force,
 * so that readers of config_current() see what really runs. A stream keeps its number as long as
 * the process runs, also when it is removed. Main thread only.
 */
void config_publish(struct config_ref *ref, struct config *next);

#endif
