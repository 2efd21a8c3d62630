-- Counts a command against its user's limit, reserves its idempotency key and records the entity that it creates: all
-- or nothing.
-- KEYS: the counter, the pending entity (empty: none), then only with a key: the reservation, the epoch.
-- ARGV: the limit, its window in ms, the pending entity's JSON, its TTL in s, then only with a key: the event, the
-- reservation's TTL in s, a fresh id.
-- Returns the outcome, two values that depend on it, the epoch and its age in ms.
local epoch, age = '', 0
if KEYS[3] then
  epoch, age = epoch_of(KEYS[4], ARGV[7])
  local reserved = redis.call('HMGET', KEYS[3], 'event', 'position')
  if reserved[1] then return {'reserved', reserved[1], reserved[2] or '', epoch, age} end
end
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count >= tonumber(ARGV[1]) then return {'limited', count, redis.call('PTTL', KEYS[1]), epoch, age} end
count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
if KEYS[2] ~= '' then redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[4]) end
if KEYS[3] then
  redis.call('HSET', KEYS[3], 'event', ARGV[5])
  redis.call('EXPIRE', KEYS[3], ARGV[6])
end
return {'admitted', count, redis.call('PTTL', KEYS[1]), epoch, age}
