// SPDX-License-Identifier: Apache-2.0
/**
 * lib.js - what the k6 scripts share: events, posting, the books, and the summary.
 *
 * The books are compared from both sides. Every accepted event that a virtual user hears of is
 * added to alloy_ledger, and teardown() subtracts what alloyd itself has counted meanwhile: the
 * ledger ends at zero unless an event was lost or counted twice. So nobody else may post meanwhile.
 */
import { check, sleep } from 'k6';
import exec from 'k6/execution';
import http from 'k6/http';
import { Counter, Rate } from 'k6/metrics';

const BASE_URL = __ENV.BASE_URL || 'http://127.0.0.1:8080';
const ADMIN_URL = __ENV.ADMIN_URL || 'http://127.0.0.1:8081';
const STREAM_PATH = __ENV.STREAM_PATH || '/v1/events';
const EVENT_BYTES = 300;
const SETTLE_SECONDS = 240;
const FILLER = 'x'.repeat(EVENT_BYTES);
const TYPES = ['page_view', 'click', 'search', 'purchase'];

export const ENDPOINT = BASE_URL + STREAM_PATH;

const accepted = new Counter('alloy_accepted');
const duplicates = new Counter('alloy_duplicates');
const backpressure = new Counter('alloy_backpressure');
const ledger = new Counter('alloy_ledger');
const books = new Rate('alloy_books');

/**
 * alloyd's counters, summed over its streams.
 * @typedef {{received: number, accepted: number, l1: number, l2: number, rejected: number,
 *            inserted: number, deadLettered: number, pending: number}} Books
 * @typedef {{run: string, before: Books}} Run  what setup() hands to every virtual user
 * @typedef {{accepted: number, duplicates: number}} Answer
 * @typedef {import('k6/http').Response} Response
 * @typedef {{type: string, values: {[name: string]: number},
 *            thresholds?: {[expression: string]: {ok: boolean}}}} SummaryMetric
 * @typedef {{metrics: {[name: string]: SummaryMetric}}} Summary
 */

/** Options of every script; each adds its scenario and its thresholds. */
export const COMMON_OPTIONS = {
    setupTimeout: '30s',
    teardownTimeout: `${SETTLE_SECONDS + 30}s`,
    summaryTrendStats: ['avg', 'min', 'med', 'p(90)', 'p(99)', 'p(99.9)', 'max'],
};

/** What no load excuses: the books balance, and both sides count the same. */
export const BOOKS_THRESHOLDS = { alloy_books: ['rate==1'], alloy_ledger: ['count==0'] };

/**
 * A whole number from the environment.
 * @param {string} name
 * @param {number} fallback
 */
export function setting(name, fallback) {
    const value = Number(__ENV[name] || fallback);
    if (!Number.isInteger(value) || value < 1) {
        throw new Error(`${name} must be a whole number from 1: ${__ENV[name]}`);
    }
    return value;
}

/**
 * One event of about 300 bytes whose id no other virtual user, iteration, index or run has.
 * @param {Run} run
 * @param {number} index  within the iteration
 */
export function event(run, index) {
    const user = exec.vu.idInTest;
    const id = `${run.run}-${user}-${exec.vu.iterationInInstance}-${index}`;
    const head =
        `{"event_id":"${id}","event_type":"${TYPES[index % TYPES.length]}","user_id":"u${user}",` +
        `"ts":"${new Date().toISOString()}","properties":{"path":"/products/${index}",` +
        `"referrer":null,"scroll":0.75,"tags":["bench","k6"],"filler":"`;
    return `${head}${FILLER.slice(0, EVENT_BYTES - head.length - 3)}"}}`;
}

/**
 * Posts a body of one or more events.
 * @param {string} body
 */
export function post(body) {
    return http.post(ENDPOINT, body, { headers: { 'Content-Type': 'application/json' } });
}

/**
 * What a 202 says; null for any other answer.
 * @param {Response} response
 * @returns {Answer | null}
 */
export function readAnswer(response) {
    if (response.status !== 202) {
        return null;
    }
    return /** @type {any} */ (response.json());
}

/**
 * Enters an answer into the counters. Returns what it said; null for anything but a 202.
 * @param {Response} response
 * @returns {Answer | null}
 */
export function enter(response) {
    const answer = readAnswer(response);
    if (answer) {
        enterCounts(answer.accepted, answer.duplicates);
    } else if (response.status === 503) {
        backpressure.add(1);
    }
    return answer;
}

/**
 * For scripts that do not read bodies, since parsing them would cost more than the request.
 * @param {number} acceptedCount
 * @param {number} duplicateCount
 */
export function enterCounts(acceptedCount, duplicateCount) {
    accepted.add(acceptedCount);
    ledger.add(acceptedCount);
    duplicates.add(duplicateCount);
}

/** A 503 that tells when to come back is backpressure, and not a failure.
 * @param {Response} response
 */
export function isBackpressure(response) {
    return response.status === 503 && response.headers['Retry-After'] !== undefined;
}

/**
 * @param {string} path
 */
function getAdmin(path) {
    return http.get(ADMIN_URL + path, {
        responseType: 'text',
        responseCallback: http.expectedStatuses(200),
    });
}

/** @returns {Books} */
function readBooks() {
    const response = getAdmin('/stats');
    if (response.status !== 200) {
        throw new Error(`${ADMIN_URL}/stats answers ${response.status} ${response.error}`);
    }
    const sum = {
        received: 0, accepted: 0, l1: 0, l2: 0,
        rejected: 0, inserted: 0, deadLettered: 0, pending: 0,
    };
    const stats = /** @type {any} */ (response.json());
    for (const name of Object.keys(stats.streams)) {
        const stream = stats.streams[name].books;
        sum.received += stream.received;
        sum.accepted += stream.accepted;
        sum.l1 += stream.duplicates.l1;
        sum.l2 += stream.duplicates.l2;
        sum.rejected += stream.rejected;
        sum.inserted += stream.inserted;
        sum.deadLettered += stream.dead_lettered;
        sum.pending += stream.pending;
    }
    return sum;
}

/** Refuses to start against an alloyd that is not ready.
 * @returns {Run}
 */
export function setup() {
    const ready = getAdmin('/readyz');
    if (ready.status !== 200) {
        throw new Error(`alloyd is not ready: ${ready.status} ${ready.body || ready.error}`);
    }
    const random = Math.floor(Math.random() * 36 ** 4).toString(36);
    return { run: `${Date.now().toString(36)}${random}`, before: readBooks() };
}

/**
 * Waits until nothing is pending, then judges the books.
 * @param {Run} run
 */
export function teardown(run) {
    const deadline = Date.now() + SETTLE_SECONDS * 1000;
    let now = readBooks();
    while (now.pending > 0 && Date.now() < deadline) {
        sleep(0.2);
        now = readBooks();
    }
    const passed = check(now, {
        'nothing is pending': (b) => b.pending === 0,
        'received = accepted + duplicates in l1 + rejected': (b) =>
            b.received === b.accepted + b.l1 + b.rejected,
        'accepted = inserted + duplicates in l2 + dead-lettered + pending': (b) =>
            b.accepted === b.inserted + b.l2 + b.deadLettered + b.pending,
        'nothing new is dead-lettered': (b) => b.deadLettered === run.before.deadLettered,
    });
    books.add(passed);
    ledger.add(run.before.accepted - now.accepted);
}

/**
 * A figure of the summary; 0 for a metric without samples, which k6 leaves out.
 * @param {Summary} data
 * @param {string} metric
 * @param {string} value
 */
function figure(data, metric, value) {
    const found = data.metrics[metric];
    return found ? found.values[value] : 0;
}

/**
 * @param {Summary} data
 */
function latencyLine(data) {
    const names = ['med', 'p(90)', 'p(99)', 'p(99.9)', 'max'];
    return names
        .map((name) => `${name} ${figure(data, 'http_req_duration', name).toFixed(2)}`)
        .join('  ');
}

/**
 * @param {Summary} data
 */
function thresholdLines(data) {
    const lines = [];
    for (const name of Object.keys(data.metrics)) {
        const thresholds = data.metrics[name].thresholds || {};
        for (const expression of Object.keys(thresholds)) {
            lines.push(`  ${thresholds[expression].ok ? 'pass' : 'FAIL'}  ${name} ${expression}`);
        }
    }
    return lines;
}

/**
 * A short text to stdout, and all figures as JSON to the file that SUMMARY names.
 * @param {Summary} data
 */
export function handleSummary(data) {
    const text = [
        `requests    ${figure(data, 'http_reqs', 'count')}` +
            ` (${figure(data, 'http_reqs', 'rate').toFixed(0)}/s)` +
            `  failed ${(figure(data, 'http_req_failed', 'rate') * 100).toFixed(3)} %` +
            `  dropped ${figure(data, 'dropped_iterations', 'count')}`,
        `latency ms  ${latencyLine(data)}`,
        `events      accepted ${figure(data, 'alloy_accepted', 'count')}` +
            `  duplicates ${figure(data, 'alloy_duplicates', 'count')}` +
            `  answers 503 ${figure(data, 'alloy_backpressure', 'count')}`,
        `checks      ${(figure(data, 'checks', 'rate') * 100).toFixed(3)} %`,
        'thresholds',
        ...thresholdLines(data),
    ];
    /** @type {{[file: string]: string}} */
    const outputs = { stdout: `${text.join('\n')}\n` };
    if (__ENV.SUMMARY) {
        outputs[__ENV.SUMMARY] = JSON.stringify(data, null, 2);
    }
    return outputs;
}
