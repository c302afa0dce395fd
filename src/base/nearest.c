/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nearest.c - which known word a misspelt one is nearest to, for "did you mean". Pure.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "alloy/nearest.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define WORD_MAX 40 /* a longer one is not compared */

static size_t nearest_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Letters to insert, delete, replace or swap until a is b (optimal string alignment). */
static size_t nearest_distance(const char *a, const char *b)
{
    const size_t a_len = strlen(a), b_len = strlen(b);
    size_t rows[3][WORD_MAX + 1];

    if (a_len > WORD_MAX || b_len > WORD_MAX)
        return SIZE_MAX;
    for (size_t k = 0; k <= b_len; k++)
        rows[0][k] = k;
    for (size_t i = 1; i <= a_len; i++) {
        size_t *row = rows[i % 3], *last = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];

        row[0] = i;
        for (size_t k = 1; k <= b_len; k++) {
            const bool same = a[i - 1] == b[k - 1];

            row[k] = nearest_min(last[k - 1] + !same, nearest_min(last[k], row[k - 1]) + 1);
            if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1])
                row[k] = nearest_min(row[k], before[k - 2] + 1);
        }
    }
    return rows[a_len % 3][b_len];
}

void nearest_try(struct nearest *nearest, const char *word)
{
    const size_t distance = nearest_distance(nearest->to, word);

    /* One letter in three, so that short words do not become others. */
    if (distance <= (strlen(nearest->to) + 2) / 3 && distance < strlen(word) &&
        (nearest->word == NULL || distance < nearest->distance)) {
        nearest->word = word;
        nearest->distance = distance;
    }
}
