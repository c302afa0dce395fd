/* SPDX-License-Identifier: Apache-2.0 */
/* test_pulse.c - a silent thread is reported once, by its name, and once when it beats again. */
#include "alloy/pulse.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "alloy/clock.h"

#define BOUND_MS 100000 /* far above what the test takes */
#define STEP_MS (BOUND_MS / 4)

/* A thread that does what it is told, one thing at a time. */
struct thread {
    pthread_t thread;
    char name[PULSE_NAME_MAX];
    sem_t go, done;
    void (*act)(void);
};

static char seen[512];
static uint64_t now_ms;

static void told(void *arg, const char *name, uint64_t silent_ms)
{
    size_t len = strlen(seen);

    assert_ptr_equal(arg, seen);
    snprintf(seen + len, sizeof(seen) - len, "%s%s ", name, silent_ms > 0 ? "-" : "+");
}

/* Looks again and again until ms later; returns how many hang then. */
static size_t look_for(uint64_t ms)
{
    const uint64_t until_ms = now_ms + ms;
    size_t hanging;

    seen[0] = '\0';
    do {
        now_ms = now_ms + STEP_MS < until_ms ? now_ms + STEP_MS : until_ms;
        hanging = pulse_look(now_ms, BOUND_MS, told, seen);
    } while (now_ms < until_ms);
    return hanging;
}

/* All judge by the same moment from here on. */
static void look_afresh(void)
{
    now_ms = clock_mono_ms() + 10 * BOUND_MS;
    pulse_look(now_ms, BOUND_MS, told, seen);
    now_ms = clock_mono_ms();
    pulse_look(now_ms, BOUND_MS, told, seen);
    seen[0] = '\0';
}

static void *thread_main(void *arg)
{
    struct thread *thread = arg;

    pulse_join(thread->name);
    sem_post(&thread->done);
    for (;;) {
        sem_wait(&thread->go);
        if (thread->act == NULL)
            break;
        thread->act();
        sem_post(&thread->done);
    }
    pulse_leave();
    return NULL;
}

static void begin(struct thread *thread, const char *name)
{
    snprintf(thread->name, sizeof(thread->name), "%s", name);
    sem_init(&thread->go, 0, 0);
    sem_init(&thread->done, 0, 0);
    assert_int_equal(pthread_create(&thread->thread, NULL, thread_main, thread), 0);
    sem_wait(&thread->done);
}

static void act(struct thread *thread, void (*what)(void))
{
    thread->act = what;
    sem_post(&thread->go);
    sem_wait(&thread->done);
}

static void end(struct thread *thread)
{
    thread->act = NULL;
    sem_post(&thread->go);
    pthread_join(thread->thread, NULL);
    sem_destroy(&thread->go);
    sem_destroy(&thread->done);
}

static void beat(void)
{
    pulse_beat(0);
}

static void beat_long(void)
{
    pulse_beat(BOUND_MS);
}

static void beat_far(void)
{
    pulse_beat(5 * BOUND_MS);
}

static void who_is_silent_is_told_once_and_when_it_goes_on(void **state)
{
    struct thread a, b;

    (void)state;
    look_afresh();
    begin(&a, "a");
    begin(&b, "b");
    act(&b, beat_far);
    assert_int_equal(look_for(BOUND_MS / 2), 0);
    assert_string_equal(seen, "");
    assert_int_equal(look_for(BOUND_MS), 1);
    assert_string_equal(seen, "a- ");
    assert_int_equal(look_for(BOUND_MS), 1);
    assert_string_equal(seen, "");
    act(&a, beat_far);
    assert_int_equal(look_for(STEP_MS), 0);
    assert_string_equal(seen, "a+ ");
    end(&a);
    end(&b);
}

static void slack_is_granted_until_the_next_beat(void **state)
{
    struct thread a;

    (void)state;
    begin(&a, "a");
    look_afresh();
    act(&a, beat_long);
    assert_int_equal(look_for(BOUND_MS + STEP_MS), 0);
    assert_int_equal(look_for(BOUND_MS), 1);
    act(&a, beat_long);
    act(&a, beat);
    look_afresh();
    assert_int_equal(look_for(BOUND_MS + STEP_MS), 1);
    end(&a);
    assert_int_equal(look_for(STEP_MS), 0);
    assert_string_equal(seen, "a+ ");
}

static void who_leaves_or_never_joined_does_not_hang(void **state)
{
    struct thread a;

    (void)state;
    beat(); /* has not joined */
    begin(&a, "a");
    end(&a);
    look_afresh();
    assert_int_equal(look_for(3 * BOUND_MS), 0);
    assert_string_equal(seen, "");
}

static void after_a_pause_of_its_own_it_judges_nobody(void **state)
{
    struct thread a;

    (void)state;
    look_afresh();
    begin(&a, "a");
    now_ms += 10 * BOUND_MS;
    assert_int_equal(pulse_look(now_ms, BOUND_MS, told, seen), 0);
    assert_int_equal(look_for(BOUND_MS), 0);
    assert_int_equal(look_for(STEP_MS), 1);
    end(&a);
}

static void there_is_room_for_many_and_more_do_no_harm(void **state)
{
    static struct thread threads[PULSE_THREADS_MAX + 5];
    char name[PULSE_NAME_MAX];

    (void)state;
    look_afresh();
    for (size_t i = 0; i < PULSE_THREADS_MAX + 5; i++) {
        snprintf(name, sizeof(name), "t%zu", i);
        begin(&threads[i], name);
    }
    act(&threads[PULSE_THREADS_MAX + 4], beat);
    assert_int_equal(look_for(BOUND_MS + STEP_MS), PULSE_THREADS_MAX);
    for (size_t i = 0; i < PULSE_THREADS_MAX + 5; i++)
        end(&threads[i]);
    assert_int_equal(look_for(STEP_MS), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_is_silent_is_told_once_and_when_it_goes_on),
        cmocka_unit_test(slack_is_granted_until_the_next_beat),
        cmocka_unit_test(who_leaves_or_never_joined_does_not_hang),
        cmocka_unit_test(after_a_pause_of_its_own_it_judges_nobody),
        cmocka_unit_test(there_is_room_for_many_and_more_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
