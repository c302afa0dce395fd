// SPDX-License-Identifier: Apache-2.0
/**
 * smoke.js - does it work at all: new, known and broken events by a few virtual users.
 *
 *     k6 run bench/k6/smoke.js        BASE_URL, ADMIN_URL, STREAM_PATH, VUS, ITERATIONS, SUMMARY
 */
import { check } from 'k6';
import http from 'k6/http';
import { BOOKS_THRESHOLDS, COMMON_OPTIONS, ENDPOINT, enter, event, post, setting } from './lib.js';

export { handleSummary, setup, teardown } from './lib.js';

/** @type {import('k6/options').Options} */
export const options = {
    ...COMMON_OPTIONS,
    scenarios: {
        smoke: {
            executor: 'per-vu-iterations',
            vus: setting('VUS', 3),
            iterations: setting('ITERATIONS', 10),
        },
    },
    thresholds: { ...BOOKS_THRESHOLDS, checks: ['rate==1'], http_req_failed: ['rate==0'] },
};

/**
 * @param {import('./lib.js').Run} run
 */
export default function (run) {
    const body = event(run, 0);

    check(enter(post(body)), {
        'a new event is accepted': (a) => a !== null && a.accepted === 1 && a.duplicates === 0,
    });
    check(enter(post(body)), {
        'the same event is a duplicate': (a) =>
            a !== null && a.accepted === 0 && a.duplicates === 1,
    });
    check(enter(post(`[${event(run, 1)},${event(run, 2)},${body}]`)), {
        'an array counts each of its events': (a) =>
            a !== null && a.accepted === 2 && a.duplicates === 1,
    });
    const broken = http.post(ENDPOINT, body.slice(0, -1), {
        responseCallback: http.expectedStatuses(400),
    });
    check(broken, {
        'a torn event is 400': (r) => r.status === 400 && r.json('error') === 'invalid_json',
    });
}
