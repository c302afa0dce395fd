// SPDX-License-Identifier: Apache-2.0
/**
 * ndjson.js - requests of 100 events, one a line, at a constant arrival rate.
 *
 *     k6 run -e RATE=150 -e DURATION=60s bench/k6/ndjson.js        RATE is in requests a second
 *                             also EVENTS, VUS, MAX_VUS, BASE_URL, ADMIN_URL, STREAM_PATH, SUMMARY
 */
import { check } from 'k6';
import { BOOKS_THRESHOLDS, COMMON_OPTIONS, enter, event, post, setting } from './lib.js';

export { handleSummary, setup, teardown } from './lib.js';

const EVENTS = setting('EVENTS', 100);

/** @type {import('k6/options').Options} */
export const options = {
    ...COMMON_OPTIONS,
    scenarios: {
        ndjson: {
            executor: 'constant-arrival-rate',
            rate: setting('RATE', 150),
            timeUnit: '1s',
            duration: __ENV.DURATION || '60s',
            preAllocatedVUs: setting('VUS', 50),
            maxVUs: setting('MAX_VUS', 500),
        },
    },
    thresholds: {
        ...BOOKS_THRESHOLDS,
        http_req_failed: ['rate<0.001'],
        http_req_duration: ['p(99)<100'],
        checks: ['rate>0.999'],
        dropped_iterations: ['count==0'],
    },
};

/**
 * @param {import('./lib.js').Run} run
 */
export default function (run) {
    const lines = [];
    for (let i = 0; i < EVENTS; i++) {
        lines.push(event(run, i));
    }
    const answer = enter(post(`${lines.join('\n')}\n`));
    check(answer, {
        'every line is accepted': (a) => a !== null && a.accepted === EVENTS && a.duplicates === 0,
    });
}
