// SPDX-License-Identifier: Apache-2.0
/**
 * standin.mjs - runs a k6 script without k6: a few iterations of each virtual user against a real
 * daemon, to test the script. It makes no load, and it is not k6.
 *
 *     node bench/k6/standin.mjs [--vus N] [--iterations N] SCRIPT
 *
 * Only what our scripts use of the API is here; anything else throws. As in k6, each virtual user
 * has its own instances of the script and its modules, and a call in the wrong phase is an error.
 * Virtual users take turns; http.batch() is concurrent. Thresholds on latency and on rates of
 * arrival are printed but not judged. Exit status as k6's: 0, 99 (a threshold or a check failed),
 * 107 (the script threw), 104 (wrong options); 2 for a wrong command line.
 *
 * k6's HTTP is synchronous: a worker thread sends, and the main thread waits in Atomics.wait.
 */
import fs from 'node:fs';
import http from 'node:http';
import { register } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import {
    MessageChannel, Worker, isMainThread, receiveMessageOnPort, workerData,
} from 'node:worker_threads';

const EXIT_THRESHOLDS = 99;
const EXIT_OPTIONS = 104;
const EXIT_SCRIPT = 107;
const EXIT_USAGE = 2;
const REQUEST_TIMEOUT_MS = 60000;

const EXECUTORS = [
    'constant-arrival-rate', 'constant-vus', 'per-vu-iterations', 'ramping-arrival-rate',
];
const OPTIONS = [
    'discardResponseBodies', 'scenarios', 'setupTimeout', 'summaryTrendStats', 'teardownTimeout',
    'thresholds',
];

/** What runs now: phase is init, setup, vu, teardown or summary. */
const state = { phase: 'init', vu: 0, iteration: 0, options: {}, expected: new Map() };
const metrics = new Map();

function fail(message) {
    throw new Error(`stand-in: ${message}`);
}

function inPhase(what, ...phases) {
    if (!phases.includes(state.phase)) {
        fail(`${what} is not possible in ${state.phase}`);
    }
}

/** The object, but what it lacks throws instead of being undefined. */
function strict(name, object) {
    return new Proxy(object, {
        get(target, key) {
            if (typeof key === 'symbol' || key in target) {
                return target[key];
            }
            return fail(`${name}.${key} is not known`);
        },
    });
}

/* Metrics. */

class Metric {
    constructor(name, type) {
        inPhase(`new ${type}("${name}")`, 'init');
        this.name = name;
        this.type = type;
        if (!metrics.has(name)) {
            metrics.set(name, { type, samples: [] });
        }
    }

    add(value) {
        inPhase(`${this.name}.add()`, 'setup', 'vu', 'teardown');
        record(this.name, this.type, Number(value));
    }
}

class Counter extends Metric {
    constructor(name) {
        super(name, 'counter');
    }
}

class Rate extends Metric {
    constructor(name) {
        super(name, 'rate');
    }
}

function record(name, type, value) {
    if (Number.isNaN(value)) {
        fail(`${name} cannot take NaN`);
    }
    if (!metrics.has(name)) {
        metrics.set(name, { type, samples: [] });
    }
    metrics.get(name).samples.push(value);
}

function percentile(sorted, percent) {
    const rank = (percent / 100) * (sorted.length - 1);
    const low = Math.floor(rank);
    const high = Math.ceil(rank);
    return sorted.length ? sorted[low] + (sorted[high] - sorted[low]) * (rank - low) : 0;
}

/** One figure of a metric, named as in k6's thresholds and summaryTrendStats. */
function figure({ type, samples }, name, seconds) {
    const sum = samples.reduce((a, b) => a + b, 0);
    const sorted = type === 'trend' ? [...samples].sort((a, b) => a - b) : [];
    const figures = {
        counter: { count: sum, rate: sum / seconds },
        rate: {
            rate: samples.length ? sum / samples.length : 0,
            passes: sum,
            fails: samples.length - sum,
        },
        trend: {
            avg: samples.length ? sum / samples.length : 0,
            min: percentile(sorted, 0),
            med: percentile(sorted, 50),
            max: percentile(sorted, 100),
        },
    }[type];
    const percent = /^p\((\d+(?:\.\d+)?)\)$/.exec(name);
    if (type === 'trend' && percent) {
        return percentile(sorted, Number(percent[1]));
    }
    return name in figures ? figures[name] : fail(`a ${type} has no ${name}`);
}

/* Requests: the worker thread's side, and ours. */

function send(agent, request) {
    return new Promise((resolve) => {
        const started = process.hrtime.bigint();
        const finish = (answer) => {
            const duration = Number(process.hrtime.bigint() - started) / 1e6;
            resolve({ status: 0, headers: {}, body: null, error: '', duration, ...answer });
        };
        const headers = { ...request.headers, 'Content-Length': Buffer.byteLength(request.body) };
        const outgoing = http.request(
            request.url,
            { method: request.method, headers, agent, timeout: REQUEST_TIMEOUT_MS },
            (incoming) => {
                const chunks = [];
                incoming.on('data', (chunk) => chunks.push(chunk));
                incoming.on('error', (error) => finish({ error: error.message }));
                incoming.on('end', () => {
                    finish({
                        status: incoming.statusCode,
                        headers: canonicalHeaders(incoming.headers),
                        body: Buffer.concat(chunks).toString(),
                    });
                });
            },
        );
        outgoing.on('timeout', () => outgoing.destroy(new Error('request timeout')));
        outgoing.on('error', (error) => finish({ error: error.message }));
        outgoing.end(request.body);
    });
}

/** Retry-After and not retry-after: k6 names headers as Go does. */
function canonicalHeaders(headers) {
    return Object.fromEntries(
        Object.entries(headers).map(([name, value]) => [
            name.replace(/(^|-)[a-z]/g, (letter) => letter.toUpperCase()), String(value),
        ]),
    );
}

function serveRequests({ port, done }) {
    const agent = new http.Agent({ keepAlive: true });
    port.on('message', async (requests) => {
        port.postMessage(await Promise.all(requests.map((request) => send(agent, request))));
        Atomics.store(done, 0, 1);
        Atomics.notify(done, 0);
    });
}

let sender = null;

function startSender() {
    const { port1, port2 } = new MessageChannel();
    const done = new Int32Array(new SharedArrayBuffer(4));
    new Worker(new URL(import.meta.url), {
        workerData: { port: port2, done },
        transferList: [port2],
    }).unref();
    return { port: port1, done };
}

/** Sends all requests at once and waits for all answers. */
function exchange(requests) {
    inPhase('a request', 'setup', 'vu', 'teardown');
    sender = sender || startSender();
    Atomics.store(sender.done, 0, 0);
    sender.port.postMessage(requests.map(({ method, url, body, params }) => ({
        method, url, body: body || '', headers: params.headers || {},
    })));
    if (Atomics.wait(sender.done, 0, 0, 2 * REQUEST_TIMEOUT_MS) === 'timed-out') {
        fail('no answer from the sending thread');
    }
    const answers = receiveMessageOnPort(sender.port).message;
    return answers.map((answer, i) => response(requests[i], answer));
}

function response({ url, params }, answer) {
    const expected = params.responseCallback || state.expected.get(state.vu) || expectedStatuses(
        { min: 200, max: 399 });
    record('http_reqs', 'counter', 1);
    record('http_req_duration', 'trend', answer.duration);
    record('http_req_failed', 'rate', expected(answer.status) ? 0 : 1);
    const kept = params.responseType || (state.options.discardResponseBodies ? 'none' : 'text');
    const body = kept === 'none' ? null : answer.body;
    return strict('response', {
        url,
        body,
        status: answer.status,
        error: answer.error,
        headers: answer.headers,
        timings: { duration: answer.duration },
        json(selector) {
            const value = JSON.parse(body === null ? fail('the body was discarded') : body);
            if (selector !== undefined && !/^\w+$/.test(selector)) {
                fail(`the selector ${selector} is not a plain name`);
            }
            return selector === undefined ? value : value[selector];
        },
    });
}

function checkParams(params) {
    for (const name of Object.keys(params)) {
        if (!['headers', 'responseCallback', 'responseType'].includes(name)) {
            fail(`the request parameter ${name} is not known`);
        }
    }
    return params;
}

function expectedStatuses(...wanted) {
    return (status) => wanted.some((one) =>
        typeof one === 'number' ? one === status : one.min <= status && status <= one.max);
}

/* The modules. */

const modules = {
    k6: {
        check(value, sets) {
            inPhase('check()', 'setup', 'vu', 'teardown');
            let passed = true;
            for (const [name, condition] of Object.entries(sets)) {
                const held = Boolean(condition(value));
                record('checks', 'rate', held ? 1 : 0);
                if (!held) {
                    console.error(`check failed: ${name} (${state.phase}, VU ${state.vu})`);
                }
                passed = passed && held;
            }
            return passed;
        },
        sleep(seconds) {
            inPhase('sleep()', 'setup', 'vu', 'teardown');
            Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, seconds * 1000);
        },
    },
    'k6/execution': {
        vu: strict('exec.vu', {
            get idInTest() {
                return inPhase('exec.vu.idInTest', 'vu') || state.vu;
            },
            get iterationInInstance() {
                return inPhase('exec.vu.iterationInInstance', 'vu') || state.iteration;
            },
        }),
    },
    'k6/http': {
        get(url, params = {}) {
            return exchange([{ method: 'GET', url, params: checkParams(params) }])[0];
        },
        post(url, body, params = {}) {
            return exchange([{ method: 'POST', url, body, params: checkParams(params) }])[0];
        },
        batch(requests) {
            return exchange(requests.map(({ method, url, body, params = {} }) => ({
                method, url, body, params: checkParams(params),
            })));
        },
        expectedStatuses,
        setResponseCallback(callback) {
            state.expected.set(state.vu, callback);
        },
    },
    'k6/metrics': { Counter, Rate },
};

/** Source of the loader hooks, which run in a thread of their own. */
function loaderSource() {
    const exported = Object.fromEntries(
        Object.entries(modules).map(([name, api]) => [name, Object.keys(api)]));
    return `
const exported = ${JSON.stringify(exported)};
export async function resolve(specifier, context, next) {
    if (specifier === 'k6' || specifier.startsWith('k6/')) {
        if (!exported[specifier]) throw new Error('stand-in: there is no module ' + specifier);
        return { url: 'standin:' + specifier, shortCircuit: true };
    }
    const parent = context.parentURL || '';
    const found = await next(specifier, context);
    // A virtual user's modules are its own.
    if (parent.includes('?vu=') && found.url.startsWith('file:')) {
        found.url += new URL(parent).search;
    }
    return found;
}
export async function load(url, context, next) {
    if (url.startsWith('standin:')) {
        const name = url.slice('standin:'.length);
        const source = 'const api = globalThis.alloyStandin[' + JSON.stringify(name) + '];' +
            'export default api;' +
            exported[name].map((n) => 'export const ' + n + ' = api.' + n + ';').join('');
        return { format: 'module', source, shortCircuit: true };
    }
    return next(url, url.includes('?vu=') ? { ...context, format: 'module' } : context);
}`;
}

/* The run. */

function prepareGlobals() {
    globalThis.alloyStandin = Object.fromEntries(
        Object.entries(modules).map(([name, api]) => [name, strict(name, api)]));
    globalThis.__ENV = { ...process.env };
    register(`data:text/javascript,${encodeURIComponent(loaderSource())}`);
}

/** An instance of the script for one virtual user; 0 runs setup, teardown and the summary. */
async function instantiate(file, vu) {
    state.phase = 'init';
    state.vu = vu;
    return import(`${pathToFileURL(file)}?vu=${vu}`);
}

function validateOptions(script) {
    const options = script.options || {};
    for (const name of Object.keys(options)) {
        OPTIONS.includes(name) || fail(`the option ${name} is not known`);
    }
    for (const [name, scenario] of Object.entries(options.scenarios || fail('no scenarios'))) {
        EXECUTORS.includes(scenario.executor) || fail(`${name}: no executor ${scenario.executor}`);
        typeof script[scenario.exec || 'default'] === 'function' || fail(`${name}: no function`);
    }
    return options;
}

function runIterations(instances, iterations, data) {
    let thrown = 0;
    for (let iteration = 0; iteration < iterations; iteration++) {
        for (const [index, script] of instances.entries()) {
            Object.assign(state, { phase: 'vu', vu: index + 1, iteration });
            for (const scenario of Object.values(state.options.scenarios)) {
                try {
                    script[scenario.exec || 'default'](data);
                } catch (error) {
                    console.error(error);
                    thrown++;
                }
                record('iterations', 'counter', 1);
            }
        }
    }
    return thrown;
}

/** One threshold: whether it holds, and whether it may be judged without a load. */
function judge(name, expression, seconds) {
    const parts = /^(\w+(?:\([\d.]+\))?)\s*(<=|>=|<|>|==|!=)\s*(-?[\d.]+)$/.exec(expression);
    const metric = metrics.get(name) || fail(`no metric ${name}`);
    const [, what, operator, limit] = parts || fail(`the threshold ${expression} is not known`);
    const value = figure(metric, what, seconds);
    const holds = {
        '<': value < limit, '<=': value <= limit, '>': value > limit, '>=': value >= limit,
        '==': value === Number(limit), '!=': value !== Number(limit),
    }[operator];
    return { holds, judged: metric.type !== 'trend', value };
}

/** The object that k6 hands to handleSummary(), and whether every judged threshold held. */
function summarize(seconds) {
    const data = { metrics: {}, state: { testRunDurationMs: seconds * 1000 } };
    let passed = true;
    for (const [name, metric] of metrics) {
        const names = {
            counter: ['count', 'rate'],
            rate: ['rate', 'passes', 'fails'],
            trend: state.options.summaryTrendStats || ['avg', 'min', 'med', 'max', 'p(90)'],
        }[metric.type];
        const values = Object.fromEntries(names.map((n) => [n, figure(metric, n, seconds)]));
        data.metrics[name] = { type: metric.type, contains: 'default', values };
    }
    for (const [name, expressions] of Object.entries(state.options.thresholds || {})) {
        const results = {};
        for (const expression of expressions) {
            const { holds, judged, value } = judge(name, expression, seconds);
            results[expression] = { ok: holds };
            passed = passed && (holds || !judged);
            if (!holds) {
                const note = judged ? '' : ' (not judged)';
                console.error(`threshold ${name} ${expression}: ${value}${note}`);
            }
        }
        data.metrics[name].thresholds = results;
    }
    const checks = metrics.get('checks');
    return { data, passed: passed && checks.samples.every((held) => held === 1) };
}

function writeOutputs(outputs) {
    for (const [target, text] of Object.entries(outputs)) {
        if (target === 'stdout') {
            process.stdout.write(text);
        } else {
            fs.writeFileSync(target, text);
        }
    }
}

async function run({ file, vus, iterations }) {
    prepareGlobals();
    const owner = await instantiate(file, 0);
    const instances = [];
    for (let vu = 1; vu <= vus; vu++) {
        instances.push(await instantiate(file, vu));
    }
    try {
        state.options = validateOptions(owner);
    } catch (error) {
        console.error(error.message);
        return EXIT_OPTIONS;
    }
    record('dropped_iterations', 'counter', 0);
    const started = Date.now();
    Object.assign(state, { phase: 'setup', vu: 0 });
    // k6 hands the data over as JSON.
    const data = JSON.parse(JSON.stringify(owner.setup()));
    const thrown = runIterations(instances, iterations, data);
    Object.assign(state, { phase: 'teardown', vu: 0 });
    owner.teardown(data);
    state.phase = 'summary';
    const { data: summary, passed } = summarize((Date.now() - started) / 1000 || 0.001);
    writeOutputs(owner.handleSummary(summary));
    if (thrown > 0) {
        return EXIT_SCRIPT;
    }
    return passed ? 0 : EXIT_THRESHOLDS;
}

function parseCommandLine(words) {
    const parsed = { vus: 2, iterations: 3, file: null };
    while (words.length > 0) {
        const word = words.shift();
        const number = Number(words[0]);
        const counted = word === '--vus' || word === '--iterations';
        if (counted && Number.isInteger(number) && number > 0) {
            parsed[word.slice(2)] = number;
            words.shift();
        } else if (!word.startsWith('-') && parsed.file === null) {
            parsed.file = path.resolve(word);
        } else {
            return null;
        }
    }
    return parsed.file ? parsed : null;
}

async function main() {
    const parsed = parseCommandLine(process.argv.slice(2));
    if (!parsed) {
        console.error('Usage: node standin.mjs [--vus N] [--iterations N] SCRIPT');
        return EXIT_USAGE;
    }
    try {
        return await run(parsed);
    } catch (error) {
        console.error(error);
        return EXIT_SCRIPT;
    }
}

if (isMainThread) {
    process.exitCode = await main();
    if (sender) {
        sender.port.close();
    }
} else if (workerData && workerData.port) {
    serveRequests(workerData);
}
