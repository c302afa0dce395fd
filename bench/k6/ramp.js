// SPDX-License-Identifier: Apache-2.0
/**
 * ramp.js - single events at a rising arrival rate, until something gives way: that should be 503
 * with Retry-After, or k6 itself (dropped iterations), and never anything else.
 *
 *     k6 run -e STAGE=30s bench/k6/ramp.js
 *                                     also VUS, MAX_VUS, BASE_URL, ADMIN_URL, STREAM_PATH, SUMMARY
 */
import { check } from 'k6';
import http from 'k6/http';
import {
    BOOKS_THRESHOLDS, COMMON_OPTIONS, enter, enterCounts, event, isBackpressure, post, setting,
} from './lib.js';

export { handleSummary, setup, teardown } from './lib.js';

const TARGETS = [5000, 10000, 20000, 40000, 60000];
const STAGE = __ENV.STAGE || '30s';

/** @type {import('k6/options').Options} */
export const options = {
    ...COMMON_OPTIONS,
    discardResponseBodies: true,
    scenarios: {
        ramp: {
            executor: 'ramping-arrival-rate',
            startRate: 1000,
            timeUnit: '1s',
            preAllocatedVUs: setting('VUS', 500),
            maxVUs: setting('MAX_VUS', 4000),
            stages: TARGETS.map((target) => ({ target, duration: STAGE })),
        },
    },
    thresholds: {
        // Not the ledger: beyond saturation k6 gives up on requests whose answer is under way.
        alloy_books: BOOKS_THRESHOLDS.alloy_books,
        http_req_failed: ['rate<0.001'],
        checks: ['rate>0.999'],
    },
};

http.setResponseCallback(http.expectedStatuses(202, 503));

/**
 * @param {import('./lib.js').Run} run
 */
export default function (run) {
    const response = post(event(run, 0));

    check(response, {
        'the answer is 202, or 503 with Retry-After': (r) => r.status === 202 || isBackpressure(r),
    });
    if (response.status === 202) {
        enterCounts(1, 0);
    } else {
        enter(response);
    }
}
