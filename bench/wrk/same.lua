-- SPDX-License-Identifier: Apache-2.0
--
-- same.lua - the request that a file holds, head and body, again and again.
--
--     wrk -t2 -c64 -d10s -s bench/wrk/same.lua http://127.0.0.1:8080/v1/events -- FILE
local event = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "event.lua")
local text

setup = event.number
done = event.report

function init(args)
    local file = assert(io.open(args[1], "rb"))
    text = file:read("*a")
    file:close()
end

function request()
    return text
end
