/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coding.c - compressed request bodies: which Content-Encoding it is, and what was compressed.
 *
 * zlib and zstd do the work. What is ours: several members or frames make one body, nothing else
 * stands behind them, and the output is bounded however small the input is. A body is too long when
 * it has one byte more than it may have, so that out must have room for that byte.
 *
 * Runs on: a decoder, one thread at a time; the rest, any thread.
 * Owns: the contexts of zlib and zstd, which outlive a body.
 */
#include "alloy/coding.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#define ZLIB_CONST
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "alloy/form.h"

/* How zlib is told the format: the largest window, and 16 for gzip, or negative for no wrapper. */
#define WINDOW_BITS_ZLIB MAX_WBITS
#define WINDOW_BITS_GZIP (MAX_WBITS + 16)
#define WINDOW_BITS_BARE (-MAX_WBITS)
/* zlib counts in 32 bits. */
#define PIECE_MAX ((size_t)1 << 30)
#define GZIP_TRAILER_BYTES 8

struct coding_decoder {
    enum coding coding;
    bool begun;  /* zlib has been told the format */
    bool at_end; /* of a member or frame, which may be the last one */
    const char *problem;
    bool has_inflate;
    z_stream inflate;
    ZSTD_DCtx *zstd; /* NULL until it is needed */
    struct form form;
    size_t frame_len; /* bytes of the frame that were used, up to those of its magic number */
    unsigned char magic[4];
};

static const struct {
    const char *name;
    enum coding coding;
} coding_names[] = {{"gzip", CODING_GZIP},
                    {"x-gzip", CODING_GZIP},
                    {"zstd", CODING_ZSTD},
                    {"deflate", CODING_DEFLATE},
                    {"identity", CODING_NONE}};

static enum coding coding_find(struct slice value)
{
    if (value.len == 0)
        return CODING_NONE;
    for (size_t i = 0; i < ARRAY_LEN(coding_names); i++) {
        if (value.len == strlen(coding_names[i].name) &&
            strncasecmp(value.data, coding_names[i].name, value.len) == 0)
            return coding_names[i].coding;
    }
    return CODING_UNKNOWN;
}

static enum coding coding_add_one(enum coding earlier, struct slice value)
{
    enum coding coding = coding_find(value);

    if (coding == CODING_NONE)
        return earlier;
    return earlier == CODING_NONE ? coding : CODING_UNKNOWN;
}

enum coding coding_add(enum coding earlier, struct slice value)
{
    const char *at = value.data, *const end = value.data + value.len;

    while (at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma != NULL ? comma : end;
        const char *next = comma != NULL ? comma + 1 : end;

        while (at < stop && (*at == ' ' || *at == '\t'))
            at++;
        while (stop > at && (stop[-1] == ' ' || stop[-1] == '\t'))
            stop--;
        earlier = coding_add_one(earlier, (struct slice){at, (size_t)(stop - at)});
        at = next;
    }
    return earlier;
}

static uint32_t coding_le32(const void *bytes)
{
    const unsigned char *at = bytes;

    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

size_t coding_announced(enum coding coding, struct slice body)
{
    unsigned long long size;

    if (coding == CODING_GZIP && body.len >= GZIP_TRAILER_BYTES)
        return coding_le32(body.data + body.len - 4);
    if (coding != CODING_ZSTD)
        return 0;
    size = ZSTD_getFrameContentSize(body.data, body.len);
    if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR)
        return 0;
    return size < SIZE_MAX ? (size_t)size : SIZE_MAX;
}

struct coding_decoder *coding_create(void)
{
    return calloc(1, sizeof(struct coding_decoder));
}

void coding_destroy(struct coding_decoder *decoder)
{
    if (!decoder)
        return;
    if (decoder->has_inflate)
        inflateEnd(&decoder->inflate);
    ZSTD_freeDCtx(decoder->zstd);
    free(decoder);
}

const char *coding_problem(const struct coding_decoder *decoder)
{
    return decoder->problem;
}

void coding_begin(struct coding_decoder *decoder, enum coding coding)
{
    decoder->coding = coding;
    decoder->begun = false;
    decoder->at_end = false;
    decoder->frame_len = 0;
    decoder->problem = NULL;
    decoder->form = (struct form){.skip = sizeof(CODING_FORM_PREFIX) - 1};
}

static enum coding_result coding_refuse(struct coding_decoder *decoder, const char *problem)
{
    decoder->problem = problem;
    return CODING_BAD;
}

static enum coding_result coding_refuse_zlib(struct coding_decoder *decoder)
{
    return coding_refuse(decoder, decoder->coding == CODING_GZIP
                                      ? "The body is not valid gzip."
                                      : "The body is not valid deflate.");
}

/* All of raw is used in the middle of a member or frame. */
static enum coding_result coding_want_more(struct coding_decoder *decoder, bool last)
{
    if (!last)
        return CODING_MORE;
    if (decoder->coding == CODING_ZSTD)
        return coding_refuse(decoder, "The body ends before its zstd data does.");
    return coding_refuse(decoder, decoder->coding == CODING_GZIP
                                      ? "The body ends before its gzip data does."
                                      : "The body ends before its deflate data does.");
}

/*
 * Tells zlib the format. A zlib header has an 8 in the low half of its first byte. Bare deflate
 * that begins so would be a stored block with padding that is not zero, which nobody writes.
 */
static bool coding_begin_zlib(struct coding_decoder *decoder, char first)
{
    int bits = WINDOW_BITS_GZIP;

    if (decoder->coding == CODING_DEFLATE)
        bits = (first & 0x0f) == Z_DEFLATED ? WINDOW_BITS_ZLIB : WINDOW_BITS_BARE;
    decoder->begun = true;
    if (decoder->has_inflate)
        return inflateReset2(&decoder->inflate, bits) == Z_OK;
    decoder->has_inflate = inflateInit2(&decoder->inflate, bits) == Z_OK;
    return decoder->has_inflate;
}

/* Lets zlib run until it has used raw, filled out, or come to the end of a member. */
static int coding_inflate(struct coding_decoder *decoder, struct slice *raw, struct coding_out *out)
{
    z_stream *stream = &decoder->inflate;
    size_t in = raw->len < PIECE_MAX ? raw->len : PIECE_MAX;
    size_t room = out->size - out->len < PIECE_MAX ? out->size - out->len : PIECE_MAX;
    int result;

    stream->next_in = (const Bytef *)raw->data;
    stream->avail_in = (uInt)in;
    stream->next_out = (Bytef *)out->data + out->len;
    stream->avail_out = (uInt)room;
    /* Z_FINISH spares a copy of the window where all fits; it does no harm where it does not. */
    result = inflate(stream, Z_FINISH);
    raw->data += in - stream->avail_in;
    raw->len -= in - stream->avail_in;
    out->len += room - stream->avail_out;
    return result == Z_BUF_ERROR ? Z_OK : result;
}

static enum coding_result coding_decode_zlib(struct coding_decoder *decoder, struct slice *raw,
                                             bool last, struct coding_out *out)
{
    for (;;) {
        size_t raw_before = raw->len, out_before = out->len;
        int result;

        if (raw->len == 0 && decoder->at_end)
            return last ? CODING_DONE : CODING_MORE;
        if (raw->len == 0 && !decoder->begun)
            return coding_want_more(decoder, last);
        if (decoder->at_end && decoder->coding != CODING_GZIP)
            return coding_refuse_zlib(decoder);
        if ((!decoder->begun || decoder->at_end) && !coding_begin_zlib(decoder, raw->data[0]))
            return CODING_NO_MEMORY;
        decoder->at_end = false;
        result = coding_inflate(decoder, raw, out);
        if (out->len > out->max)
            return CODING_TOO_LARGE;
        if (result == Z_MEM_ERROR)
            return CODING_NO_MEMORY;
        if (result == Z_STREAM_END) {
            decoder->at_end = true;
            continue;
        }
        if (result != Z_OK)
            return coding_refuse_zlib(decoder);
        if (out->len == out->size)
            return CODING_FULL;
        if (raw->len == 0)
            return coding_want_more(decoder, last);
        if (raw->len == raw_before && out->len == out_before)
            return coding_refuse_zlib(decoder);
    }
}

static bool coding_begin_zstd(struct coding_decoder *decoder)
{
    decoder->begun = true;
    if (decoder->zstd)
        return !ZSTD_isError(ZSTD_DCtx_reset(decoder->zstd, ZSTD_reset_session_only));
    decoder->zstd = ZSTD_createDCtx();
    return decoder->zstd && !ZSTD_isError(ZSTD_DCtx_setParameter(decoder->zstd, ZSTD_d_windowLogMax,
                                                                 CODING_ZSTD_WINDOW_LOG_MAX));
}

/* Whether the frame may be zstd's as far as its magic number is known. The library also reads the
 * formats of before 2016, whose decoders have long been left alone. */
static bool coding_magic_fits(struct coding_decoder *decoder, struct slice raw)
{
    size_t have = decoder->frame_len;
    uint32_t magic;

    for (size_t i = 0; have < sizeof(decoder->magic) && i < raw.len; i++)
        decoder->magic[have++] = (unsigned char)raw.data[i];
    if (have < sizeof(decoder->magic))
        return true;
    magic = coding_le32(decoder->magic);
    return magic == ZSTD_MAGICNUMBER ||
           (magic & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START;
}

static enum coding_result coding_refuse_zstd(struct coding_decoder *decoder, size_t error)
{
    switch (ZSTD_getErrorCode(error)) {
    case ZSTD_error_memory_allocation:
        return CODING_NO_MEMORY;
    case ZSTD_error_frameParameter_windowTooLarge:
        return coding_refuse(decoder, "The body's zstd window is larger than 8 MiB.");
    default:
        return coding_refuse(decoder, "The body is not valid zstd.");
    }
}

/* One call of the library: the bytes it still expects, 0 at the end of a frame, or an error. */
static size_t coding_unzstd(struct coding_decoder *decoder, struct slice *raw,
                            struct coding_out *out)
{
    ZSTD_inBuffer in = {raw->data, raw->len, 0};
    ZSTD_outBuffer to = {out->data, out->size, out->len};
    size_t result = ZSTD_decompressStream(decoder->zstd, &to, &in);

    decoder->frame_len += in.pos;
    if (decoder->frame_len > sizeof(decoder->magic))
        decoder->frame_len = sizeof(decoder->magic);
    raw->data += in.pos;
    raw->len -= in.pos;
    out->len = to.pos;
    return result;
}

static enum coding_result coding_decode_zstd(struct coding_decoder *decoder, struct slice *raw,
                                             bool last, struct coding_out *out)
{
    if (!decoder->begun && !coding_begin_zstd(decoder))
        return CODING_NO_MEMORY;
    for (;;) {
        size_t result;

        if (raw->len == 0 && decoder->at_end)
            return last ? CODING_DONE : CODING_MORE;
        if (!coding_magic_fits(decoder, *raw))
            return coding_refuse_zstd(decoder, 0);
        decoder->at_end = false;
        /* Without raw too: what the library has not yet written goes out. */
        result = coding_unzstd(decoder, raw, out);
        if (ZSTD_isError(result))
            return coding_refuse_zstd(decoder, result);
        if (out->len > out->max)
            return CODING_TOO_LARGE;
        if (result == 0) {
            decoder->at_end = true;
            decoder->frame_len = 0;
            continue;
        }
        if (out->len == out->size)
            return CODING_FULL;
        if (raw->len == 0)
            return coding_want_more(decoder, last);
    }
}

static enum coding_result coding_decode_form(struct coding_decoder *decoder, struct slice *raw,
                                             bool last, struct coding_out *out)
{
    const char *problem = form_decode(&decoder->form, raw, out);

    if (out->len > out->max)
        return CODING_TOO_LARGE;
    if (problem == NULL && raw->len == 0 && last)
        problem = form_end(&decoder->form);
    if (problem != NULL)
        return coding_refuse(decoder, problem);
    if (raw->len > 0)
        return CODING_FULL;
    return last ? CODING_DONE : CODING_MORE;
}

enum coding_result coding_decode(struct coding_decoder *decoder, struct slice *raw, bool last,
                                 struct coding_out *out)
{
    ALLOY_ASSERT(out->len < out->size && out->size - 1 <= out->max);
    if (decoder->coding == CODING_ZSTD)
        return coding_decode_zstd(decoder, raw, last, out);
    if (decoder->coding == CODING_FORM)
        return coding_decode_form(decoder, raw, last, out);
    return coding_decode_zlib(decoder, raw, last, out);
}
