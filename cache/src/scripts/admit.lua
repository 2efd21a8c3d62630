-- Counts a command against its user's limit and reserves its idempotency key, both or neither.
-- KEYS: counter, reservation (only with a key). ARGV: most, window in ms, the event, reservation's TTL in s.
if KEYS[2] then
  local reserved = redis.call('HMGET', KEYS[2], 'event', 'position')
  if reserved[1] then return {'reserved', reserved[1], reserved[2] or ''} end
end
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then return {'limited', count, redis.call('PTTL', KEYS[1])} end
count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
if KEYS[2] then
  redis.call('HSET', KEYS[2], 'event', ARGV[3])
  redis.call('EXPIRE', KEYS[2], ARGV[4])
end
return {'admitted', count, redis.call('PTTL', KEYS[1])}
