-- SPDX-License-Identifier: Apache-2.0
--
-- ndjson.lua - 100 new events a request, one a line.
--
--     wrk -t2 -c64 -d10s -s bench/wrk/ndjson.lua http://127.0.0.1:8080/v1/events -- RUN
local event = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "event.lua")
local EVENTS = 100
local make, head
local count = 0
local lines = {}

setup = event.number
done = event.report

local function body()
    for i = 1, EVENTS do
        count = count + 1
        lines[i] = make(count)
    end
    return table.concat(lines, "\n")
end

function init(args)
    make = event.maker(args)
    head = event.head(body())
    count = 0
end

function request()
    return head .. body()
end
