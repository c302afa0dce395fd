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
 * Good rows may have a bad shape. So we learn by which values refused rows differ from others
 * (traits.c), and pick rows that differ: these go before the rest, one first, and four times as
 * many after each success. As we learn we score the rest again, in rounds: so many rows in a step
 * that other streams need not wait.
 *
 * When the code does not tell whether the row or the table is at fault, a row that was refused
 * alone is kept until others go in: see apart_review().
 *
 * Runs on: flusher thread.
 * Owns: the inserts in its lists.
 */
#include "apart.h"

#include <errno.h>
#include <limits.h>

#define ALIKE_SINGLY 4 /* refusals of a bad shape in a row before each of its rows goes alone */
#define LOOK 16        /* how many inserts we look at to find one that is due */
#define LOOK_FAR 1024  /* or one whose rows are to be scored */
#define STEP_ROWS 1024 /* the most rows that a step scores */
#define ROUND_MIN 4    /* refusals in a row that begin a round of scoring */
#define ROUND_GROWTH 4 /* and then so many times as many; likewise successes */
#define PICK_ROWS 128  /* the most that it picks of them */
#define PICK_SIFTED 16 /* the most that it picks while the lane refuses */
#define PICK_GROWTH 4
#define PICKS_DOUBTED 8 /* picked rows refused in a row; then others have a turn too */
#define GOOD_MAX 256    /* good rows for each bad one; from then on we pick none */
#define RECENT_ROWS 16  /* bad ones, or so many good ones; then what we know is halved */
#define LEARN_ROWS 32   /* the most that we learn from, of an insert that went in */
#define NEAR 2          /* picks that go together have at least half of the best one's score */
#define LEVELS 256      /* of scores */
#define LEVEL (TRAITS_PROMISING / 2)

/* The rows that are picked from an insert. */
struct apart_choice {
    uint8_t levels[STEP_ROWS]; /* of the rows' scores */
    uint8_t above;             /* rows above this level are picked */
    size_t ties;               /* and so many of those at it */
    int best;                  /* level of a picked row */
    int next;                  /* the best level of the others */
};

void apart_init(struct apart *apart)
{
    *apart = (struct apart){.pick_rows = 1, .round_refused = ROUND_MIN, .round_taken = 1};
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
    traits_destroy(apart->traits);
    apart->traits = NULL;
}

static struct slice apart_event(const struct record *record)
{
    return (struct slice){record->body, record->body_length - 1}; /* without the newline */
}

/* Where an insert stands among the suspects: what nobody has refused goes first, then picks by what
 * they promise. */
static int apart_rank(const struct insert *insert)
{
    if (!insert->alike)
        return INT_MAX;
    return insert->picked ? insert->promise : 0;
}

/* Puts an insert before those that rank no higher: the smallest parts go first. */
static void apart_queue_suspect(struct apart *apart, struct insert *insert)
{
    struct insert **link = &apart->suspects.first;
    size_t look = LOOK_FAR;

    for (; look > 0 && *link != NULL && apart_rank(*link) > apart_rank(insert); look--)
        link = &(*link)->next;
    insert_list_put(&apart->suspects, link, insert);
}

static void apart_queue(struct apart *apart, struct insert *parts[2], bool first_likely)
{
    if (parts[1]->alike && !parts[1]->picked)
        insert_list_push_back(&apart->suspects, parts[1]);
    else
        apart_queue_suspect(apart, parts[1]);
    if (first_likely)
        insert_list_push_back(&apart->likely, parts[0]);
    else
        apart_queue_suspect(apart, parts[0]);
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
    if (insert->picked)
        apart->pick_rows = (apart->pick_rows + PICK_GROWTH - 1) / PICK_GROWTH;
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

/* Scores the rows and chooses the best, at most room. Returns how many. */
static size_t apart_choose(const struct apart *apart, const struct insert *insert, size_t room,
                           struct apart_choice *choice)
{
    uint16_t counts[LEVELS] = {0};
    size_t chosen = 0;
    int level = LEVELS;

    ALLOY_ASSERT(apart->traits != NULL && insert->count <= STEP_ROWS && room > 0);
    for (size_t i = 0; i < insert->count; i++) {
        const int score =
            traits_score(apart->traits, apart_event(insert_records(insert)[i])) / LEVEL;
        choice->levels[i] = (uint8_t)(score < 0 ? 0 : score < LEVELS ? score : LEVELS - 1);
        counts[choice->levels[i]]++;
    }
    choice->best = choice->next = 0;
    choice->ties = 0;
    while (level * LEVEL > TRAITS_PROMISING && choice->next == 0) {
        size_t fits = counts[--level] < room - chosen ? counts[level] : room - chosen;
        if (fits > 0 && chosen == 0)
            choice->best = level;
        /* For a few rows that go together only the best will do. */
        if (room < PICK_ROWS && level < choice->best / NEAR)
            fits = 0;
        if (fits < counts[level])
            choice->next = level;
        choice->ties = fits;
        chosen += fits;
    }
    choice->above = (uint8_t)level;
    return chosen;
}

/* An insert_first_fn. */
static bool apart_is_chosen(void *arg, size_t row, const struct record *record)
{
    struct apart_choice *choice = arg;

    (void)record;
    if (choice->levels[row] != choice->above)
        return choice->levels[row] > choice->above;
    return choice->ties > 0 && choice->ties-- > 0;
}

/*
 * Takes an insert and returns its rows, at most room, that differ most from refused ones; NULL:
 * none differs, or out of memory. Sets *rest to the others; NULL: there are none.
 */
static struct insert *apart_pick(struct apart *apart, struct insert *insert, size_t room,
                                 struct insert **rest)
{
    struct apart_choice choice;
    const struct insert_cutting cutting = {
        .cut = INSERT_CUT_WHERE, .first = apart_is_chosen, .arg = &choice};
    const size_t chosen = apart_choose(apart, insert, room, &choice);
    struct insert *parts[2] = {insert, NULL};

    insert->round = apart->round;
    insert->picked = chosen > 0;
    if (chosen > 0 && chosen < insert->count && insert_cut(insert, &cutting, parts) != 0)
        insert->picked = false;
    *rest = parts[0]->picked ? parts[1] : parts[0];
    if (!parts[0]->picked)
        return NULL;
    ALLOY_ASSERT(parts[0]->count == chosen);
    parts[0]->promise = choice.best;
    if (parts[1] != NULL) {
        parts[1]->promise = choice.next;
        parts[1]->picked = false;
    }
    return parts[0];
}

/* Picks from an insert taken out of suspects at link, and puts all back. Returns how many rows were
 * scored. */
static size_t apart_look_at(struct apart *apart, struct insert *insert, struct insert **link)
{
    const struct insert_cutting cutting = {.cut = INSERT_CUT_FIRST, .at = STEP_ROWS};
    struct insert *parts[2], *picks, *rest;
    size_t count;

    /* It may go before those that it waits for. */
    insert_settle(insert, false);
    if (insert->count > STEP_ROWS && insert_cut(insert, &cutting, parts) == 0) {
        insert_list_put(&apart->suspects, link, parts[1]);
        insert = parts[0];
    }
    count = insert->count;
    insert->round = apart->round;
    if (count > STEP_ROWS) { /* out of memory */
        insert_list_put(&apart->suspects, link, insert);
        return STEP_ROWS;
    }
    picks = apart_pick(apart, insert, apart->pick_rows > PICK_ROWS ? apart->pick_rows : PICK_ROWS,
                       &rest);
    if (rest != NULL)
        insert_list_put(&apart->suspects, link, rest);
    if (picks != NULL)
        apart_queue_suspect(apart, picks);
    return count;
}

/* A step of a round: picks from rows of bad shapes that were not scored in this round. */
static void apart_look(struct apart *apart)
{
    struct insert **link = &apart->suspects.first;
    size_t scored = 0;

    /* When nearly all rows are good, halves find the bad ones with fewer inserts. */
    if (apart->round == 0 || apart->rows_taken >= apart->rows_refused * GOOD_MAX)
        return;
    for (size_t look = LOOK_FAR; look > 0 && *link != NULL && scored < STEP_ROWS; look--) {
        const struct insert *insert = *link;
        if (insert->alike && insert->round != apart->round && insert->state == INSERT_GATHERED)
            scored += apart_look_at(apart, insert_list_take(&apart->suspects, link), link);
        else
            link = &(*link)->next;
    }
}

/* Takes picked rows and returns those to send now; NULL: by what we have learned meanwhile none of
 * them differs. The others are put back. */
static struct insert *apart_narrow(struct apart *apart, struct insert *insert)
{
    struct insert *rest;
    struct insert *picks = apart_pick(apart, insert, apart->pick_rows, &rest);

    if (rest == NULL)
        return picks;
    rest->picked = picks != NULL && rest->promise > 0;
    if (rest->picked) {
        apart_queue_suspect(apart, rest);
    } else {
        /* It goes last now, so nobody should wait for it. */
        insert_settle(rest, false);
        insert_list_push_back(&apart->suspects, rest);
    }
    return picks;
}

/* While nothing is taken apart: of a new insert whose rows all have a bad shape, returns those rows
 * that differ from refused ones. NULL: there are none. */
static struct insert *apart_sift_alike(struct apart *apart, struct insert *insert)
{
    const struct insert_cutting cutting = {.cut = INSERT_CUT_FIRST, .at = STEP_ROWS};
    struct insert *parts[2];
    struct insert *picks = NULL, *rest = insert;

    insert->aside = true;
    insert->alike = true;
    if (insert->count > STEP_ROWS && insert_cut(insert, &cutting, parts) == 0) {
        insert_list_push_back(&apart->suspects, parts[1]);
        insert = rest = parts[0];
    }
    if (apart->round > 0 && insert->count <= STEP_ROWS)
        picks = apart_pick(apart, insert, PICK_SIFTED, &rest);
    if (rest != NULL)
        insert_list_push_back(&apart->suspects, rest);
    if (picks != NULL)
        picks->aside = picks->alike = picks->picked = picks->part = false;
    return picks;
}

struct insert *apart_sift(struct apart *apart, struct insert *insert, bool given_up)
{
    const struct insert_cutting cutting = {
        .cut = INSERT_CUT_SHAPE, .shapes = apart->shapes, .shape_count = apart->shape_count};
    struct insert *parts[2];

    /* Only while rows of these shapes are mostly refused: good rows may have such a shape too. */
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
    return apart_sift_alike(apart, insert);
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
    struct insert_list unexplored, picked, alike;
    struct insert *parts[2];

    insert_list_init(&unexplored);
    insert_list_init(&picked);
    insert_list_init(&alike);
    while (apart->suspects.first != NULL) {
        struct insert *insert = insert_list_pop(&apart->suspects);
        if (insert->picked) {
            insert_list_push_back(&picked, insert);
        } else if (insert->alike || insert->state != INSERT_GATHERED) {
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
    insert_list_append(&apart->suspects, &picked);
    insert_list_append(&apart->suspects, &alike);
}

static void apart_learn_refused(struct apart *apart, const struct insert *insert)
{
    if (apart->traits == NULL)
        apart->traits = traits_create();
    if (apart->traits == NULL)
        return;
    traits_learn(apart->traits, apart_event(insert_records(insert)[0]), true);
    if (++apart->rows_refused == RECENT_ROWS) {
        apart->rows_refused /= 2;
        apart->rows_taken /= 2;
    }
    if (++apart->refused >= apart->round_refused) {
        apart->round++;
        apart->round_refused = apart->refused * ROUND_GROWTH;
        apart->taken = 0;
        apart->round_taken = 1;
    }
}

void apart_note_refused(struct apart *apart, const struct insert *insert)
{
    const uint64_t shape = insert_row_shape(insert_records(insert)[0]);

    apart->refused_alone++;
    apart->alike_refused++;
    if (insert->picked) {
        apart->pick_rows = (apart->pick_rows + PICK_GROWTH - 1) / PICK_GROWTH;
        apart->picks_refused++;
    }
    apart_learn_refused(apart, insert);
    if (apart_knows(apart, shape))
        return;
    apart->shapes[apart->shape_next] = shape;
    apart->shape_next = (apart->shape_next + 1) % APART_SHAPES;
    if (apart->shape_count < APART_SHAPES)
        apart->shape_count++;
    apart_sort(apart);
}

/* Learns from some rows of an insert that went in, if they have a bad shape. The first success
 * after many refusals tells the most. */
static void apart_learn_success(struct apart *apart, const struct insert *insert)
{
    const size_t stride = (insert->count + LEARN_ROWS - 1) / LEARN_ROWS;

    if (apart->traits == NULL ||
        (!insert->alike && !apart_knows(apart, insert_row_shape(insert_records(insert)[0]))))
        return;
    apart->rows_taken += insert->count;
    while (apart->rows_taken >= RECENT_ROWS * GOOD_MAX) {
        apart->rows_taken /= 2;
        apart->rows_refused /= 2;
    }
    apart->refused = 0;
    if (apart->suspects.first == NULL)
        return;
    for (size_t i = 0; i < insert->count; i += stride) {
        const struct record *record = insert_records(insert)[i];
        if (insert->alike || apart_knows(apart, insert_row_shape(record)))
            traits_learn(apart->traits, apart_event(record), false);
    }
    if (apart->round_refused > ROUND_MIN * ROUND_GROWTH)
        apart->round_refused /= ROUND_GROWTH;
    if (apart->round > 0 && ++apart->taken == apart->round_taken) {
        apart->round++;
        apart->round_taken *= ROUND_GROWTH;
    }
}

void apart_note_success(struct apart *apart, const struct insert *insert)
{
    apart->refused_alone = 0;
    apart_learn_success(apart, insert);
    /* A lucky row does not tell that the others are good, and picks differ from them. */
    if (insert->picked) {
        apart->picks_refused = 0;
        if (apart->pick_rows < PICK_GROWTH * insert->count)
            apart->pick_rows = PICK_GROWTH * insert->count;
        if (apart->pick_rows > STEP_ROWS)
            apart->pick_rows = STEP_ROWS;
        apart->alike_refused -= apart->alike_refused < insert->count / ALIKE_SINGLY
                                    ? apart->alike_refused
                                    : (uint32_t)insert->count / ALIKE_SINGLY;
    } else if (insert->alike) {
        apart->alike_refused /= ALIKE_SINGLY;
    }
}

/* Takes a suspect that is due; NULL: there is none. While picks are refused each second one is of
 * the others: nothing may tell good rows from bad, and luck must have its chance. */
static struct insert *apart_take_suspect(struct apart *apart, uint64_t now_ms)
{
    struct insert **link = &apart->suspects.first;

    apart->others_turn = apart->picks_refused >= PICKS_DOUBTED && !apart->others_turn;
    if (!apart->others_turn)
        return insert_list_take_due(&apart->suspects, now_ms, LOOK);
    for (size_t look = LOOK_FAR; look > 0 && *link != NULL; look--) {
        if (!(*link)->picked && now_ms >= (*link)->due_ms && (*link)->leader == NULL)
            return insert_list_take(&apart->suspects, link);
        link = &(*link)->next;
    }
    return insert_list_take_due(&apart->suspects, now_ms, LOOK);
}

/* Takes the next part out of suspects, and cuts it first if that is better; NULL: there is none. */
static struct insert *apart_next_suspect(struct apart *apart, uint64_t now_ms)
{
    struct insert_cutting cutting = {.cut = INSERT_CUT_HALF, .bad_row = true};
    struct insert *insert = apart_take_suspect(apart, now_ms);
    struct insert *parts[2];
    size_t scored = 0;

    while (insert != NULL && insert->picked && scored < STEP_ROWS) {
        struct insert *picks;
        scored += insert->count;
        picks = apart_narrow(apart, insert);
        if (picks != NULL) {
            insert = picks;
            break;
        }
        insert = insert_list_take_due(&apart->suspects, now_ms, LOOK);
    }
    while (insert != NULL && insert->count > 1) {
        if (insert->picked && insert->count <= apart->pick_rows && !insert->suspect)
            return insert;
        if (insert->state == INSERT_GATHERED && insert->alike &&
            apart->alike_refused >= ALIKE_SINGLY) {
            cutting = (struct insert_cutting){.cut = INSERT_CUT_FIRST, .at = 1};
        } else if (!insert->suspect) {
            return insert;
        }
        if (insert_cut(insert, &cutting, parts) != 0)
            return insert; /* out of memory: send it as it is */
        apart_queue_suspect(apart, parts[1]);
        insert = parts[0];
    }
    return insert;
}

struct insert *apart_next(struct apart *apart, uint64_t now_ms, bool again)
{
    struct insert *insert = again ? NULL : insert_list_take_due(&apart->likely, now_ms, LOOK);
    const struct insert *first;

    if (insert == NULL && !again)
        apart_look(apart);
    first = apart->suspects.first;
    /* Inserts that may hold good rows go before those that were refused already. */
    if (insert == NULL && !again && first != NULL && (!first->alike || first->picked))
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
    return few && !insert->fickle && insert->tried_ns > proof->takes_since_ns &&
           proof->checked_ns > insert->answered_ns;
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
