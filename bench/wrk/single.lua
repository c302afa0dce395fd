-- SPDX-License-Identifier: Apache-2.0
--
-- single.lua - one new event a request.
--
--     wrk -t2 -c64 -d10s -s bench/wrk/single.lua http://127.0.0.1:8080/v1/events -- RUN [KEY]
local event = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "event.lua")
local make, head
local count = 0

setup = event.number
done = event.report

function init(args)
    make = event.maker(args)
    head = event.head(make(0), args[2])
end

function request()
    count = count + 1
    return head .. make(count)
end
