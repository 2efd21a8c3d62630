-- One read of a view: the progress first, then the view, then whether its heads still have the stamps that
-- it was built under. KEYS: progress, view.
local progress = redis.call('HGETALL', KEYS[1])
local view = redis.call('GET', KEYS[2])
if not view then return {progress, false} end
local line = string.find(view, '\n', 1, true)
local depends = cjson.decode(string.sub(view, 1, line - 1))
for _, pair in ipairs(depends) do
  if redis.call('GET', pair[1]) ~= pair[2] then return {progress, false} end
end
return {progress, string.sub(view, line + 1)}
