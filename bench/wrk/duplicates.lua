-- SPDX-License-Identifier: Apache-2.0
--
-- duplicates.lua - one event a request; the given percentage (default 50) of them repeat one of the
-- last 1000, on whatever connection comes next, so also while the first is under way.
--
--     wrk -t2 -c64 -d10s -s bench/wrk/duplicates.lua http://127.0.0.1:8080/v1/events -- RUN [SHARE]
local event = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "event.lua")
local WINDOW = 1000
local make, head, share
local count = 0

setup = event.number
done = event.report

function init(args)
    make = event.maker(args)
    head = event.head(make(0))
    share = (tonumber(args[2]) or 50) / 100
    -- Repeatable runs; another sequence for each thread.
    math.randomseed(20260131 + thread_number)
end

function request()
    if count > 0 and math.random() < share then
        return head .. make(math.random(math.max(1, count - WINDOW + 1), count))
    end
    count = count + 1
    return head .. make(count)
end
