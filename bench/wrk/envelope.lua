-- SPDX-License-Identifier: Apache-2.0
--
-- envelope.lua - one new event a request, in an envelope, with its id a level down (/message/event_id).
--
--     wrk -t2 -c64 -d10s -s bench/wrk/envelope.lua http://127.0.0.1:8080/v1/events -- RUN
local event = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "event.lua")
local make, head
local count = 0

setup = event.number
done = event.report

local function body(n)
    return '{"sentAt":"2026-01-31T12:00:00Z","batch":[{"message":' .. make(n) .. "}]}"
end

function init(args)
    make = event.maker(args)
    head = event.head(body(0))
end

function request()
    count = count + 1
    return head .. body(count)
end
