/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apart.c - takes refused inserts apart, so that the good rows go in first.
 *
 * Bad rows of one client mostly look alike. So when the row that a message names has been refused
 * alone, and the other rows are refused too, we cut them by its shape: rows of other shapes go
 * first and are mostly good, however the two were mixed. Rows of its shape are halved, or, once a
 * few of them were refused one after the other, tried singly. We remember the shapes and cut the
 * next refused insert by them at once.
 *
 * When the code does not tell whether the row or the table is at fault, a row that was refused
 * alone is kept until others go in: see apart_review().
 *
 * Runs on: flusher thread.
 * Owns: the inserts in its lists.
 */
#include "apart.h"

#include <errno.h>

#define ALIKE_SINGLY 4 /* refusals of a bad shape in a row before each of its rows goes alone */
#define LOOK 16        /* how many inserts we look at to find one that is due */

void apart_init(struct apart *apart)
{
    *apart = (struct apart){.out = 0};
    insert_list_init(&apart->likely);
    insert_list_init(&apart->suspects);
    insert_list_init(&apart->again);
    insert_list_init(&apart->kept);
    insert_list_init(&apart->burying);
}

void apart_clear(struct apart *apart)
{
    insert_list_clear(&apart->likely);
    insert_list_clear(&apart->suspects);
    insert_list_clear(&apart->again);
    insert_list_clear(&apart->kept);
    insert_list_clear(&apart->burying);
}

static void apart_queue(struct apart *apart, struct insert *parts[2], bool first_likely)
{
    if (parts[1]->alike)
        insert_list_push_back(&apart->suspects, parts[1]);
    else
        insert_list_push_front(&apart->suspects, parts[1]);
    if (first_likely)
        insert_list_push_back(&apart->likely, parts[0]);
    else
        insert_list_push_front(&apart->suspects, parts[0]);
}

static bool apart_knows(const struct apart *apart, uint64_t shape)
{
    for (size_t i = 0; i < apart->shape_count; i++) {
        if (apart->shapes[i] == shape)
            return true;
    }
    return false;
}

/* Cuts by the known bad shapes, if that gives two parts. */
static int apart_cut_shapes(struct apart *apart, struct insert *insert)
{
    struct insert_cutting cutting = {.cut = INSERT_CUT_SHAPE};
    struct insert *parts[2];
    int err = -ENOENT;

    if (insert->bad_shape != 0) {
        cutting.shapes = &insert->bad_shape;
        cutting.shape_count = 1;
        err = insert_cut(insert, &cutting, parts);
    } else if (!insert->alike && apart->shape_count > 0) {
        cutting.shapes = apart->shapes;
        cutting.shape_count = apart->shape_count;
        err = insert_cut(insert, &cutting, parts);
        if (err == 0)
            parts[1]->alike = true;
        else if (err == -ENOENT)
            insert->alike = apart_knows(apart, insert_row_shape(insert_records(insert)[0]));
    }
    if (err == 0)
        apart_queue(apart, parts, true);
    return err;
}

int apart_cut(struct apart *apart, struct insert *insert, int64_t row)
{
    struct insert_cutting cutting = {.cut = INSERT_CUT_HALF, .bad_row = true};
    struct insert *parts[2];
    int err;

    insert->aside = true;
    err = apart_cut_shapes(apart, insert);
    if (err == 0 || err == -ENOMEM)
        return err;
    if (insert->bad_shape != 0) {
        /* All rows look like the bad one. */
        insert->alike = true;
        insert->bad_shape = 0;
    }
    if (row >= 0 && (uint64_t)row < insert->count && insert->hints > 0) {
        cutting.cut = INSERT_CUT_ROW;
        cutting.at = (size_t)row;
    }
    err = insert_cut(insert, &cutting, parts);
    if (err == 0)
        apart_queue(apart, parts, false);
    return err;
}

struct insert *apart_sift(struct apart *apart, struct insert *insert, bool given_up)
{
    const struct insert_cutting cutting = {
        .cut = INSERT_CUT_SHAPE, .shapes = apart->shapes, .shape_count = apart->shape_count};
    struct insert *parts[2];

    /* Only while rows of these shapes are refused each time: good rows may have such a shape
     * too. */
    if (apart->alike_refused < ALIKE_SINGLY || apart->shape_count == 0)
        return insert;
    if (insert->count > 1 && insert_cut(insert, &cutting, parts) == 0) {
        parts[0]->part = false;
        parts[1]->aside = true;
        parts[1]->alike = true;
        insert_list_push_back(&apart->suspects, parts[1]);
        return parts[0];
    }
    if (!given_up || !apart_knows(apart, insert_row_shape(insert_records(insert)[0])))
        return insert;
    insert->aside = true;
    insert->alike = true;
    insert_list_push_back(&apart->suspects, insert);
    return NULL;
}

void apart_add_likely(struct apart *apart, struct insert *insert)
{
    insert->aside = true;
    insert_list_push_front(&apart->likely, insert);
}

void apart_put_off(struct apart *apart, struct insert *insert)
{
    insert->aside = true;
    /* Its follower waits for its answer, which might take long. */
    insert_settle(insert, false);
    insert_list_push_back(&apart->again, insert);
}

/* A new shape is known to be bad: sorts the suspects so that rows of other shapes go first. */
static void apart_sort(struct apart *apart)
{
    const struct insert_cutting cutting = {
        .cut = INSERT_CUT_SHAPE, .shapes = apart->shapes, .shape_count = apart->shape_count};
    struct insert_list unexplored, alike;
    struct insert *parts[2];

    insert_list_init(&unexplored);
    insert_list_init(&alike);
    while (apart->suspects.first != NULL) {
        struct insert *insert = insert_list_pop(&apart->suspects);
        if (insert->alike || insert->state != INSERT_GATHERED) {
            insert_list_push_back(&alike, insert);
        } else if (insert->count > 1 && insert_cut(insert, &cutting, parts) == 0) {
            parts[1]->alike = true;
            insert_list_push_back(&apart->likely, parts[0]);
            insert_list_push_back(&alike, parts[1]);
        } else if (apart_knows(apart, insert_row_shape(insert_records(insert)[0]))) {
            insert_settle(insert, false);
            insert->alike = true;
            insert_list_push_back(&alike, insert);
        } else {
            insert_list_push_back(&unexplored, insert);
        }
    }
    insert_list_append(&apart->suspects, &unexplored);
    insert_list_append(&apart->suspects, &alike);
}

void apart_note_refused(struct apart *apart, const struct insert *insert)
{
    const uint64_t shape = insert_row_shape(insert_records(insert)[0]);

    apart->refused_alone++;
    apart->alike_refused++;
    if (apart_knows(apart, shape))
        return;
    apart->shapes[apart->shape_next] = shape;
    apart->shape_next = (apart->shape_next + 1) % APART_SHAPES;
    if (apart->shape_count < APART_SHAPES)
        apart->shape_count++;
    apart_sort(apart);
}

void apart_note_success(struct apart *apart, const struct insert *insert)
{
    apart->refused_alone = 0;
    if (insert->alike)
        apart->alike_refused = 0;
}

/* Takes the next part out of suspects, and cuts it first if that is better; NULL: there is none. */
static struct insert *apart_next_suspect(struct apart *apart, uint64_t now_ms)
{
    struct insert_cutting cutting = {.cut = INSERT_CUT_HALF, .bad_row = true};
    struct insert *insert = insert_list_take_due(&apart->suspects, now_ms, LOOK);
    struct insert *parts[2];

    while (insert != NULL && insert->count > 1) {
        if (insert->state == INSERT_GATHERED && insert->alike &&
            apart->alike_refused >= ALIKE_SINGLY) {
            cutting = (struct insert_cutting){.cut = INSERT_CUT_FIRST, .at = 1};
        } else if (!insert->suspect) {
            return insert;
        }
        if (insert_cut(insert, &cutting, parts) != 0)
            return insert; /* out of memory: send it as it is */
        insert_list_push_front(&apart->suspects, parts[1]);
        insert = parts[0];
    }
    return insert;
}

struct insert *apart_next(struct apart *apart, uint64_t now_ms, bool again)
{
    struct insert *insert = again ? NULL : insert_list_take_due(&apart->likely, now_ms, LOOK);

    /* Inserts that may hold good rows go before those that were refused already. */
    if (insert == NULL && !again && apart->suspects.first != NULL && !apart->suspects.first->alike)
        insert = apart_next_suspect(apart, now_ms);
    if (insert == NULL)
        insert = insert_list_take_due(&apart->again, now_ms, LOOK);
    return insert != NULL || again ? insert : apart_next_suspect(apart, now_ms);
}

struct insert *apart_take_kept(struct apart *apart)
{
    struct insert *insert = apart->kept.first == NULL ? NULL : insert_list_pop(&apart->kept);

    if (insert != NULL)
        insert_move(insert, INSERT_REFUSED);
    return insert;
}

struct insert *apart_take_few(struct apart *apart, size_t rows)
{
    const struct insert_cutting cutting = {.cut = INSERT_CUT_FIRST, .at = rows};
    struct insert_list *list = apart->likely.first != NULL     ? &apart->likely
                               : apart->suspects.first != NULL ? &apart->suspects
                                                               : &apart->again;
    struct insert *insert = list->first == NULL ? NULL : insert_list_pop(list);
    struct insert *parts[2];

    if (insert == NULL)
        return NULL;
    insert_settle(insert, false);
    if (insert->count <= rows || insert->state == INSERT_PUT_OFF ||
        insert_cut(insert, &cutting, parts) != 0)
        return insert;
    insert_list_push_front(list, parts[1]);
    return parts[0];
}

static bool apart_any_due(const struct insert_list *list, uint64_t now_ms)
{
    size_t look = LOOK;

    for (const struct insert *insert = list->first; insert != NULL && look > 0;
         insert = insert->next, look--) {
        if (now_ms >= insert->due_ms && insert->leader == NULL)
            return true;
    }
    return false;
}

bool apart_due(const struct apart *apart, uint64_t now_ms, bool again)
{
    return apart_any_due(&apart->again, now_ms) ||
           (!again &&
            (apart_any_due(&apart->likely, now_ms) || apart_any_due(&apart->suspects, now_ms)));
}

uint64_t apart_next_due(const struct apart *apart)
{
    uint64_t due = UINT64_MAX;
    size_t look = LOOK;

    for (const struct insert *insert = apart->again.first; insert != NULL && look > 0;
         insert = insert->next, look--) {
        if (insert->due_ms < due)
            due = insert->due_ms;
    }
    return due;
}

static void apart_add_rows(void *arg, struct insert *insert)
{
    uint64_t *rows = arg;

    *rows += insert->count;
}

uint64_t apart_rows(const struct apart *apart)
{
    uint64_t rows = 0;

    apart_visit((struct apart *)apart, apart_add_rows, &rows);
    return rows;
}

/* Whether a row that was refused for its values is at fault: the table takes others, or nobody is
 * left to ask and there are too few of them to accuse the table. */
static bool apart_is_at_fault(const struct insert *insert, const struct apart_proof *proof,
                              bool few)
{
    if (insert->proven)
        return true;
    /* What was tried before the table took rows may go in now: it goes again. */
    if (insert->sure)
        return proof->takes_since_ns != 0 ? insert->tried_ns > proof->takes_since_ns
                                          : few && proof->all_tried;
    return few && !insert->fickle && proof->checked_ns > insert->answered_ns;
}

void apart_review(struct apart *apart, const struct apart_proof *proof)
{
    const bool few = apart->refused_alone < APART_TRUSTED && apart->kept.count < APART_TRUSTED;
    struct insert_list left;

    insert_list_init(&left);
    while (apart->kept.first != NULL) {
        struct insert *insert = insert_list_pop(&apart->kept);
        if (apart_is_at_fault(insert, proof, few)) {
            insert_move(insert, INSERT_BURYING);
            insert_list_push_back(&apart->burying, insert);
        } else if (insert->answered_ns < proof->taken_ns ||
                   (insert->sure && proof->takes_since_ns != 0)) {
            insert_move(insert, INSERT_REFUSED);
            insert_list_push_back(&apart->again, insert);
        } else {
            insert_list_push_back(&left, insert);
        }
    }
    insert_list_append(&apart->kept, &left);
}

static void apart_bury_list(struct apart *apart, struct insert_list *list)
{
    struct insert_list left;

    insert_list_init(&left);
    while (list->first != NULL) {
        struct insert *insert = insert_list_pop(list);
        if (insert->state == INSERT_PUT_OFF) {
            insert_list_push_back(&left, insert);
            continue;
        }
        insert_settle(insert, false);
        insert_move(insert, INSERT_BURYING);
        insert_list_push_back(&apart->burying, insert);
    }
    insert_list_append(list, &left);
}

void apart_bury(struct apart *apart, bool untried)
{
    apart_bury_list(apart, &apart->kept);
    if (!untried)
        return;
    apart_bury_list(apart, &apart->likely);
    apart_bury_list(apart, &apart->suspects);
    apart_bury_list(apart, &apart->again);
}

static void apart_visit_list(struct insert_list *list, apart_visit_fn visit, void *arg)
{
    for (struct insert *insert = list->first; insert != NULL; insert = insert->next)
        visit(arg, insert);
}

void apart_visit(struct apart *apart, apart_visit_fn visit, void *arg)
{
    apart_visit_list(&apart->likely, visit, arg);
    apart_visit_list(&apart->suspects, visit, arg);
    apart_visit_list(&apart->again, visit, arg);
    apart_visit_list(&apart->kept, visit, arg);
    apart_visit_list(&apart->burying, visit, arg);
}
