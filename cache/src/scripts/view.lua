-- Looks a view up: reads the progress first, then the view, then checks that the versions that it was stored with are
-- still current. Before that, it counts the request, if there is a counter, and reads nothing for one that is refused.
-- KEYS: the progress, the as-ofs, the view, the counter (optional). ARGV: the page size (empty: the view is no list), the
-- age in ms up to which an as-of is current, then only with a counter: the limit and its window in ms.
-- Returns the progress, the view with its entity tag, as stored, the partitions whose as-of is current, and what
-- `count_request` returns, if it counts.
local counted = KEYS[4] and count_request(KEYS[4], ARGV[3], ARGV[4])
if counted and counted[3] == 1 then return {{}, false, {}, counted} end
local progress = redis.call('HGETALL', KEYS[1])
local view
if ARGV[1] == '' then view = redis.call('GET', KEYS[3]) else view = redis.call('HGET', KEYS[3], ARGV[1]) end
if not view then return {progress, false, {}, counted or false} end
local line = string.find(view, '\n', 1, true)
local depends = cjson.decode(string.sub(view, 1, line - 1))
for _, pair in ipairs(depends) do
  if redis.call('GET', pair[1]) ~= pair[2] then return {progress, false, {}, counted or false} end
end
local time = redis.call('TIME')
local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[2]
local as_ofs, current = redis.call('HGETALL', KEYS[2]), {}
for i = 1, #as_ofs, 2 do
  if tonumber(as_ofs[i + 1]) >= oldest then table.insert(current, tonumber(as_ofs[i])) end
end
return {progress, string.sub(view, line + 1), current, counted or false}
