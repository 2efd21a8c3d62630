-- Looks a view up: reads the progress first, then the view, then checks that the versions that it was stored with are
-- still current. KEYS: the progress, the view. ARGV: the page size (empty: the view is no list). Returns the progress
-- and the view with its entity tag, as stored.
local progress = redis.call('HGETALL', KEYS[1])
local view
if ARGV[1] == '' then view = redis.call('GET', KEYS[2]) else view = redis.call('HGET', KEYS[2], ARGV[1]) end
if not view then return {progress, false} end
local line = string.find(view, '\n', 1, true)
local depends = cjson.decode(string.sub(view, 1, line - 1))
for _, pair in ipairs(depends) do
  if redis.call('GET', pair[1]) ~= pair[2] then return {progress, false} end
end
return {progress, string.sub(view, line + 1)}
