-- Counts a request against its user's limit, unless the user has reached it. Returns the count, the time until the
-- window ends in ms, and 1 if the request is refused, else 0. It counts also while Redis is full.
local function count_request(key, max, window)
  local count = tonumber(redis.call('GET', key) or '0')
  if count >= tonumber(max) then return {count, redis.call('PTTL', key), 1} end
  write_although_full(key)
  count = redis.call('INCR', key)
  if count == 1 then redis.call('PEXPIRE', key, window) end
  return {count, redis.call('PTTL', key), 0}
end

