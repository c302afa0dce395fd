-- SPDX-License-Identifier: Apache-2.0
--
-- restart.lua - single.lua at a pace, for restarts under load: counts the answers by kind, and goes
-- quiet once a file is there, so that nothing is under way when wrk is ended by INT.
--
--     wrk -t1 -c8 -d3600s -s bench/wrk/restart.lua http://127.0.0.1:8080/v1/events -- RUN STOP_FILE
dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "single.lua")
local PAUSE_MS = 5
local number, report, begin = setup, done, init
local threads = {}
local stop_file, calls, stopped

-- Of a thread; wrk's main state reads them at the end.
accepted, full, others, example = 0, 0, 0, ""

function setup(thread)
    number(thread)
    table.insert(threads, thread)
end

function init(args)
    begin({ args[1] })
    stop_file, calls = args[2], 0
end

-- Before each request of a connection.
function delay()
    calls = calls + 1
    if not stopped and calls % 8 == 0 then
        local file = io.open(stop_file)
        if file then file:close() end
        stopped = file ~= nil
    end
    return stopped and 3600000 or PAUSE_MS
end

function response(status, headers, body)
    if status == 202 and body:find('"accepted":1,"duplicates":0', 1, true) then
        accepted = accepted + 1
    elseif status == 503 and body:find('"overloaded"', 1, true) then
        full = full + 1
    else
        others, example = others + 1, status .. " " .. body:gsub("[^%w ]", "")
    end
end

function done(summary, latency)
    local sum = { accepted = 0, full = 0, others = 0 }
    local last = ""
    for _, thread in ipairs(threads) do
        for name in pairs(sum) do sum[name] = sum[name] + thread:get(name) end
        if thread:get("example") ~= "" then last = thread:get("example") end
    end
    io.write(string.format('ANSWERS {"accepted":%d,"full":%d,"others":%d,"example":"%s"}\n',
        sum.accepted, sum.full, sum.others, last))
    report(summary, latency)
end
