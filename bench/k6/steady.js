// SPDX-License-Identifier: Apache-2.0
/**
 * steady.js - single events at a constant arrival rate: the rate does not give way when alloyd is
 * slow, so the latencies are what clients would see.
 *
 *     k6 run -e RATE=15000 -e DURATION=60s bench/k6/steady.js
 *                                     also VUS, MAX_VUS, BASE_URL, ADMIN_URL, STREAM_PATH, SUMMARY
 */
import { check } from 'k6';
import {
    BOOKS_THRESHOLDS, COMMON_OPTIONS, enter, enterCounts, event, post, setting,
} from './lib.js';

export { handleSummary, setup, teardown } from './lib.js';

/** @type {import('k6/options').Options} */
export const options = {
    ...COMMON_OPTIONS,
    discardResponseBodies: true,
    scenarios: {
        steady: {
            executor: 'constant-arrival-rate',
            rate: setting('RATE', 15000),
            timeUnit: '1s',
            duration: __ENV.DURATION || '60s',
            preAllocatedVUs: setting('VUS', 500),
            maxVUs: setting('MAX_VUS', 2000),
        },
    },
    thresholds: {
        ...BOOKS_THRESHOLDS,
        http_req_failed: ['rate<0.001'],
        http_req_duration: ['p(99)<50'],
        checks: ['rate>0.999'],
        dropped_iterations: ['count==0'],
    },
};

/**
 * @param {import('./lib.js').Run} run
 */
export default function (run) {
    const response = post(event(run, 0));

    check(response, { 'the answer is 202': (r) => r.status === 202 });
    if (response.status === 202) {
        // The id is new, so that there is no need to read the body.
        enterCounts(1, 0);
    } else {
        enter(response);
    }
}
