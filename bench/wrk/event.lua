-- SPDX-License-Identifier: Apache-2.0
--
-- event.lua - events and results for the wrk scripts beside it.
--
-- Each of wrk's threads is a Lua state of its own, shared by all its connections: run, thread and a
-- counter make an id unique. Events have one length, so that a request's head is made once. There
-- is no response() hook, which would take the load generator's time for each answer: wrk counts
-- answers from 400 itself, and bench/run reads the codes from alloyd.
local event = {}

event.BYTES = 300

local TEMPLATE = '{"event_id":"%s-%02d-%010d","event_type":"page_view","user_id":"u%05d",' ..
    '"ts":"2026-01-31T12:%02d:%02d.%03dZ","properties":{"path":"/products/%05d","referrer":null,' ..
    '"scroll":0.75,"tags":["bench","wrk"],"filler":"%s"}}'

local threads = 0

-- In wrk's main state: numbers the threads.
function event.number(thread)
    thread:set("thread_number", threads)
    threads = threads + 1
end

-- In a thread's state, from init(args): args[1] is the run, a word of letters and digits. Returns a
-- function that gives the event with a number.
function event.maker(args)
    local run = args[1] or string.format("r%d", os.time())
    local pause = tonumber(os.getenv("ALLOY_BENCH_PAUSE_MS")) or 0
    if pause > 0 then
        -- wrk waits this many milliseconds before each request of a connection.
        delay = function() return pause end
    end
    local thread = thread_number
    local format, floor = string.format, math.floor
    local function make(n, filler)
        return format(TEMPLATE, run, thread, n, n % 100000, floor(n / 60000) % 60,
            floor(n / 1000) % 60, n % 1000, n % 100000, filler)
    end
    local filler = string.rep("x", event.BYTES - #make(0, ""))
    return function(n) return make(n, filler) end
end

-- The head of every request whose body is as long as this one; key may be nil.
function event.head(body, key)
    local headers = { ["Content-Type"] = "application/json" }
    if key then headers["Authorization"] = "Bearer " .. key end
    local request = wrk.format("POST", nil, headers, body)
    return request:sub(1, #request - #body)
end

-- In wrk's main state, from done(): one line of JSON for bench/run. Times are in microseconds.
function event.report(summary, latency)
    local e = summary.errors
    io.write(string.format('RESULT {"requests":%d,"duration_us":%d,"bytes":%d,' ..
        '"errors":{"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d},' ..
        '"latency_us":{"p50":%d,"p90":%d,"p99":%d,"p99.9":%d,"max":%d}}\n',
        summary.requests, summary.duration, summary.bytes,
        e.connect, e.read, e.write, e.timeout, e.status,
        latency:percentile(50), latency:percentile(90), latency:percentile(99),
        latency:percentile(99.9), latency.max))
end

return event
