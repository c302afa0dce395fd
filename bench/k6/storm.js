// SPDX-License-Identifier: Apache-2.0
/**
 * storm.js - duplicates: 30 to 90 % of the events of an iteration are repeats, within a request and
 * across requests that are under way at once; then all of them are sent once more, as by a client
 * that has lost the answers.
 *
 * For one alloyd: with several behind one address, an id that another one owns is accepted here
 * and found to be a duplicate in Redis later.
 *
 *     k6 run -e DURATION=60s bench/k6/storm.js
 *                                     also VUS, EVENTS, BASE_URL, ADMIN_URL, STREAM_PATH, SUMMARY
 */
import { check } from 'k6';
import exec from 'k6/execution';
import http from 'k6/http';
import {
    BOOKS_THRESHOLDS, COMMON_OPTIONS, ENDPOINT, enter, event, isBackpressure, post, setting,
} from './lib.js';

export { handleSummary, setup, teardown } from './lib.js';

const EVENTS = setting('EVENTS', 100); // an iteration sends this many twice
const PARTS = 4; // requests under way at once

/** @type {import('k6/options').Options} */
export const options = {
    ...COMMON_OPTIONS,
    scenarios: {
        storm: {
            executor: 'constant-vus',
            vus: setting('VUS', 16),
            duration: __ENV.DURATION || '60s',
        },
    },
    thresholds: { ...BOOKS_THRESHOLDS, checks: ['rate==1'], http_req_failed: ['rate==0'] },
};

http.setResponseCallback(http.expectedStatuses(202, 503));

/**
 * Puts the elements into a random order (Fisher and Yates).
 * @param {string[]} list
 */
function shuffle(list) {
    for (let i = list.length - 1; i > 0; i--) {
        const j = Math.floor(Math.random() * (i + 1));
        [list[i], list[j]] = [list[j], list[i]];
    }
}

/**
 * EVENTS events of which fresh are different ones.
 * @param {import('./lib.js').Run} run
 * @param {number} fresh
 */
function stormEvents(run, fresh) {
    /** @type {string[]} */
    const sent = [];
    for (let i = 0; i < EVENTS; i++) {
        sent.push(i < fresh ? event(run, i) : sent[Math.floor(Math.random() * fresh)]);
    }
    shuffle(sent);
    return sent;
}

/**
 * Checks one answer to count events. Returns how many were accepted; null after a 503.
 * @param {import('./lib.js').Response} response
 * @param {number} count
 */
function checkAnswer(response, count) {
    const answer = enter(response);
    check(response, {
        'accepted + duplicates = sent': (r) =>
            answer ? answer.accepted + answer.duplicates === count : isBackpressure(r),
    });
    return answer && answer.accepted;
}

/**
 * @param {import('./lib.js').Run} run
 */
export default function (run) {
    const repeated = 0.3 + 0.1 * (exec.vu.iterationInInstance % 7);
    const fresh = Math.max(1, Math.round(EVENTS * (1 - repeated)));
    const sent = stormEvents(run, fresh);
    /** @type {string[][]} */
    const parts = Array.from({ length: PARTS }, () => []);
    sent.forEach((one, i) => parts[i % PARTS].push(one));
    const filled = parts.filter((part) => part.length > 0);

    const responses = http.batch(
        filled.map((part) => ({ method: 'POST', url: ENDPOINT, body: part.join('\n') })),
    );
    let acceptedCount = 0;
    let complete = true;
    responses.forEach((response, i) => {
        const count = checkAnswer(response, filled[i].length);
        complete = complete && count !== null;
        acceptedCount += count || 0;
    });
    // What a 503 has refused is new when it comes again; then nothing more can be said.
    if (!complete) {
        return;
    }
    check(acceptedCount, { 'each id is accepted once': (n) => n === fresh });
    const again = post(sent.join('\n'));
    const count = checkAnswer(again, sent.length);
    check(count, { 'a repeated request is all duplicates': (n) => n === null || n === 0 });
}
