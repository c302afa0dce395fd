/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.c - leveled log lines on stderr, logfmt or JSON.
 *
 * Callers write "constant text key=value key=\"quoted value\"". The line is rendered once and then
 * split at the first " word=" into message and pairs, so that both formats carry the same fields
 * and no byte of a value can begin a second line or close a string early. No allocation: this must
 * work when memory has run out.
 *
 * Runs on: any thread; log_start() and log_stop() on the main thread. Owns: nothing.
 */
#include "alloy/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "alloy/clock.h"
#include "alloy/text.h"
#include "log_sink.h"

#define LINE_BYTES LOG_SINK_LINE_MAX
#define CUT_BYTES 24 /* kept free for a closing quote, the mark of a cut line, and the newline */
#define RENDERED_BYTES 4096 /* text and pairs as the caller formatted them */
#define ISO_BYTES 25

/* A line that is being built. Once it is cut, it takes nothing more: a later short field after the
 * gap would mislead. */
struct line {
    char data[LINE_BYTES];
    size_t len;
    size_t fields; /* where the fields begin, after the priority */
    bool cut;
};

static const char *const level_words[] = {"error", "warn", "info", "debug"};
/* In the form of sd-daemon(3); systemd's journal removes them again. */
static const char *const level_priorities[] = {"<3>", "<4>", "<6>", "<7>"};

static _Atomic int level_in_force = LOG_LEVEL_INFO;
static _Atomic int format_in_force = LOG_FORMAT_LOGFMT;
static _Atomic bool priorities_in_force;

/* Puts all of data or nothing, so that an escape is never cut in two. */
static void log_put(struct line *line, const char *data, size_t len)
{
    if (line->cut || len > LINE_BYTES - CUT_BYTES - line->len) {
        line->cut = true;
        return;
    }
    memcpy(line->data + line->len, data, len);
    line->len += len;
}

static void log_put_text(struct line *line, const char *text)
{
    log_put(line, text, strlen(text));
}

/* Puts bytes inside a quoted string: legal JSON, which logfmt readers understand too. What a
 * terminal would not show as it is, it gets as an escape. */
static void log_put_escaped(struct line *line, const char *data, size_t len)
{
    char escaped[TEXT_ESCAPE_MAX];
    size_t taken;

    for (; len > 0; data += taken, len -= taken) {
        size_t n = text_escape(data, len, &taken, escaped);

        if (unlikely(taken > 1 && !text_is_shown(data, taken)))
            n = text_escape_number(data, taken, escaped);
        log_put(line, escaped, n);
    }
}

static bool log_is_key_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.';
}

/* Length of the key if "key=" begins at text, else 0. */
static size_t log_key_len(const char *text)
{
    size_t len = 0;

    while (log_is_key_byte(text[len]))
        len++;
    return text[len] == '=' ? len : 0;
}

/* Returns where the pairs begin: at the first word that has the form key=. */
static const char *log_find_pairs(const char *text)
{
    const char *at = text;

    while (*at != '\0') {
        if ((at == text || at[-1] == ' ') && log_key_len(at) > 0)
            return at;
        at++;
    }
    return at;
}

/*
 * Finds the end of the value at text. A quoted value ends at a quote that a space or the end
 * follows, since the caller did not escape the quotes inside it; any other value ends where the
 * next " key=" begins, so that a stray space cannot swallow the fields behind it.
 */
static const char *log_value_end(const char *text, bool quoted)
{
    for (; *text != '\0'; text++) {
        if (quoted && *text == '"' &&
            (text[1] == '\0' || (text[1] == ' ' && log_key_len(text + 2) > 0)))
            return text;
        if (!quoted && *text == ' ' && log_key_len(text + 1) > 0)
            return text;
    }
    return text;
}

static bool log_needs_quotes(const char *data, size_t len)
{
    if (len == 0)
        return true;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)data[i];

        if (c <= ' ' || c == '"' || c == '\\' || c == '=' || c >= 0x7f)
            return true;
    }
    return false;
}

/* Fields whose values are names, which somebody else has chosen: "123" and "yes" stay strings. */
static const char *const name_keys[] = {"stream", "streams", "key",    "table",   "file",
                                        "thread", "server",  "client", "version", "engine",
                                        "path",   "window",  "config"};

static bool log_is_name(struct slice key)
{
    for (size_t i = 0; i < ARRAY_LEN(name_keys); i++)
        if (strlen(name_keys[i]) == key.len && memcmp(name_keys[i], key.data, key.len) == 0)
            return true;
    return false;
}

static size_t log_count_digits(struct slice text, size_t at)
{
    size_t n = 0;

    while (at + n < text.len && text.data[at + n] >= '0' && text.data[at + n] <= '9')
        n++;
    return n;
}

/* RFC 8259, without exponents, which we never print. */
static bool log_is_number(struct slice text)
{
    size_t at = text.len > 0 && text.data[0] == '-' ? 1 : 0;
    size_t digits = log_count_digits(text, at);

    if (digits == 0 || (digits > 1 && text.data[at] == '0'))
        return false;
    at += digits;
    if (at < text.len && text.data[at] == '.') {
        digits = log_count_digits(text, at + 1);
        if (digits == 0)
            return false;
        at += 1 + digits;
    }
    return at == text.len;
}

/* The conversion of the value of key in a format: its last letter, e.g. 'u' of "rows=%zu"; 'c' if
 * it is no conversion alone; 0 if the key is not there, since it came with a %s. */
static char log_conversion(const char *format, struct slice key)
{
    for (const char *at = strchr(format, '='); at != NULL; at = strchr(at + 1, '=')) {
        const char *value = at + 1;

        if ((size_t)(at - format) < key.len || memcmp(at - key.len, key.data, key.len) != 0 ||
            ((size_t)(at - format) > key.len && at[-(ptrdiff_t)key.len - 1] != ' '))
            continue;
        if (*value != '%')
            return 'c';
        value++;
        value += strspn(value, "-+ 0123456789.hlzjtq");
        return *value;
    }
    return 0;
}

/* What stands for the value in JSON without quotes; NULL: it is a string. */
static const char *log_json_literal(const char *format, struct slice key, struct slice value)
{
    const char conversion = log_conversion(format, key);

    if (strchr("diufgc", conversion) != NULL && log_is_number(value) &&
        (conversion != 0 || !log_is_name(key)))
        return value.data;
    if (log_is_name(key) || (conversion != 0 && conversion != 's' && conversion != 'c'))
        return NULL;
    if ((value.len == 3 && memcmp(value.data, "yes", 3) == 0) ||
        (value.len == 4 && memcmp(value.data, "true", 4) == 0))
        return "true";
    if ((value.len == 2 && memcmp(value.data, "no", 2) == 0) ||
        (value.len == 5 && memcmp(value.data, "false", 5) == 0))
        return "false";
    return NULL;
}

/*
 * Puts one field with its separator. Without room for the key, drops the field; without room for
 * the value, cuts the value and closes its quote. In logfmt quotes a value only if necessary.
 */
static void log_put_field(struct line *line, enum log_format format, struct slice key,
                          struct slice value, bool quoted)
{
    bool json = format == LOG_FORMAT_JSON;
    bool quotes = json || quoted || log_needs_quotes(value.data, value.len);
    size_t before = line->len;

    if (before > line->fields)
        log_put(line, json ? "," : " ", 1);
    else if (json)
        log_put(line, "{", 1);
    log_put_text(line, json ? "\"" : "");
    log_put(line, key.data, key.len);
    log_put_text(line, json ? "\":" : "=");
    log_put_text(line, quotes ? "\"" : "");
    if (line->cut) {
        line->len = before;
        return;
    }
    log_put_escaped(line, value.data, value.len);
    if (quotes)
        line->data[line->len++] = '"'; /* there is room: CUT_BYTES */
}

static void log_put_word(struct line *line, enum log_format format, const char *key,
                         const char *value)
{
    log_put_field(line, format, (struct slice){key, strlen(key)},
                  (struct slice){value, strlen(value)}, false);
}

/* Puts a number, true or false; all of it or nothing. */
static void log_put_literal(struct line *line, struct slice key, const char *literal, size_t len)
{
    size_t before = line->len;

    log_put_text(line, before > line->fields ? ",\"" : "{\"");
    log_put(line, key.data, key.len);
    log_put_text(line, "\":");
    log_put(line, literal, len);
    if (line->cut)
        line->len = before;
}

/* pattern: the caller's format. */
static void log_put_pairs(struct line *line, enum log_format format, const char *pattern,
                          const char *text)
{
    while (*text != '\0' && !line->cut) {
        struct slice key = {text, log_key_len(text)};
        bool quoted = text[key.len + 1] == '"';
        const char *value = text + key.len + 1 + quoted;
        const char *end = log_value_end(value, quoted);

        const struct slice slice = {value, (size_t)(end - value)};
        const char *literal =
            format == LOG_FORMAT_JSON && !quoted ? log_json_literal(pattern, key, slice) : NULL;

        if (literal != NULL)
            log_put_literal(line, key, literal, literal == value ? slice.len : strlen(literal));
        else
            log_put_field(line, format, key, slice, false);
        text = end + (quoted && *end == '"');
        while (*text == ' ')
            text++;
    }
}

/* Ends the line, and marks it if it was cut. */
static void log_finish(struct line *line, enum log_format format)
{
    bool json = format == LOG_FORMAT_JSON;
    const char *end = json ? "}\n" : "\n";

    if (line->cut)
        end = json ? ",\"cut\":true}\n" : " cut=true\n";
    memcpy(line->data + line->len, end, strlen(end));
    line->len += strlen(end);
}

void log_configure(enum log_level level, enum log_format format)
{
    /* relaxed: one more line of the old kind does no harm */
    atomic_store_explicit(&level_in_force, (int)level, memory_order_relaxed);
    atomic_store_explicit(&format_in_force, (int)format, memory_order_relaxed);
}

int log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&level_in_force, memory_order_relaxed);
}

/* Builds the line from what the caller formatted with pattern. */
static void log_render(struct line *line, enum log_level level, const char *module,
                       const char *pattern, const char *rendered)
{
    enum log_format form =
        (enum log_format)atomic_load_explicit(&format_in_force, memory_order_relaxed);
    const char *pairs = log_find_pairs(rendered);
    size_t text_len = (size_t)(pairs - rendered);
    char now[ISO_BYTES];

    while (text_len > 0 && rendered[text_len - 1] == ' ')
        text_len--;
    clock_format_iso(clock_real_ms(), now);
    line->len = 0;
    line->cut = false;
    if (atomic_load_explicit(&priorities_in_force, memory_order_relaxed))
        log_put_text(line, level_priorities[level]);
    line->fields = line->len;
    log_put_word(line, form, "time", now);
    log_put_word(line, form, "level", level_words[level]);
    log_put_word(line, form, "module", module);
    log_put_field(line, form, (struct slice){"msg", 3}, (struct slice){rendered, text_len}, true);
    log_put_pairs(line, form, pattern, pairs);
    line->cut = line->cut || strlen(rendered) == RENDERED_BYTES - 1;
    log_finish(line, form);
}

void log_write(enum log_level level, const char *module, const char *format, ...)
{
    int saved_errno = errno;
    char rendered[RENDERED_BYTES];
    struct line line;
    va_list args;
    int wanted;

    if (!log_enabled(level))
        return;
    va_start(args, format);
    wanted = vsnprintf(rendered, sizeof(rendered), format, args);
    va_end(args);
    if (wanted >= 0) {
        log_render(&line, level, module, format, rendered);
        log_sink_put(line.data, line.len);
    }
    errno = saved_errno;
}

/* Builds the line that says how many lines are missing, whatever level is in force. */
static size_t log_render_gap(uint64_t count, char out[LOG_SINK_LINE_MAX])
{
    static const char pattern[] =
        "log lines dropped, because standard error did not take them lines=%" PRIu64;
    char rendered[128];
    struct line line;

    snprintf(rendered, sizeof(rendered), pattern, count);
    log_render(&line, LOG_LEVEL_WARN, "log", pattern, rendered);
    memcpy(out, line.data, line.len);
    return line.len;
}

/* JOURNAL_STREAM names the stream that systemd gave us; but children inherit it, and standard error
 * may have been redirected since, so compare. */
bool log_goes_to_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    char own[64];
    struct stat status;

    if (stream == NULL || fstat(STDERR_FILENO, &status) != 0)
        return false;
    snprintf(own, sizeof(own), "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
    return strcmp(stream, own) == 0;
}

int log_start(void)
{
    atomic_store_explicit(&priorities_in_force, log_goes_to_journal(), memory_order_relaxed);
    return log_sink_start(log_render_gap);
}

void log_stop(unsigned wait_ms)
{
    log_sink_stop(wait_ms);
}

void log_flush(unsigned wait_ms)
{
    log_sink_flush(wait_ms);
}

uint64_t log_dropped(void)
{
    return log_sink_dropped();
}

int log_burst_pass(struct log_burst *burst, uint64_t now_ms, uint32_t per_s, uint64_t *suppressed)
{
    const uint64_t second = now_ms / 1000;
    uint64_t window = atomic_load_explicit(&burst->window, memory_order_relaxed);
    uint64_t next;

    do {
        next = window >> 32 == (second & UINT32_MAX) ? window + 1 : second << 32 | 1;
        if ((next & UINT32_MAX) > per_s) {
            atomic_fetch_add_explicit(&burst->held, 1, memory_order_relaxed);
            return 0;
        }
    } while (!atomic_compare_exchange_weak_explicit(&burst->window, &window, next,
                                                    memory_order_relaxed, memory_order_relaxed));
    *suppressed = atomic_exchange_explicit(&burst->held, 0, memory_order_relaxed);
    return 1;
}

int log_limit_pass(struct log_limit *limit, uint64_t now_ms, uint64_t interval_ms,
                   uint64_t *suppressed)
{
    uint64_t next_ms = atomic_load_explicit(&limit->next_ms, memory_order_relaxed);

    /* When several threads come at the same time, the one whose exchange succeeds writes. */
    if (now_ms < next_ms ||
        !atomic_compare_exchange_strong_explicit(&limit->next_ms, &next_ms, now_ms + interval_ms,
                                                 memory_order_relaxed, memory_order_relaxed)) {
        atomic_fetch_add_explicit(&limit->held, 1, memory_order_relaxed);
        return 0;
    }
    *suppressed = atomic_exchange_explicit(&limit->held, 0, memory_order_relaxed);
    return 1;
}
