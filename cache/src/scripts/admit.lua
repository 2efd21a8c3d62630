-- Counts a command against its user's limits, reserves its idempotency key, records the entity that it creates and ends
-- its user's typing: all or nothing.
-- KEYS: the counters, the pending entity (empty: none), the mark that the user types (empty: it stays), then only with
-- a key: the reservation, the epoch, the mark of keys that were used before their time.
-- ARGV: the number of counters, of each its limit, its window in ms and what the command adds to it, the pending
-- entity's JSON, its TTL in s, then only with a key: its time in ms (0: none), how long before its time it may be used
-- and how long after it it is fresh, both in ms, the event, the reservation's TTL in s, a fresh id.
-- Returns the outcome, three values that depend on it, the epoch and its age in ms. The values are the number of the
-- counter (from 0), its count and its TTL in ms; of a reservation, the second is what the key is reserved for.
local counters = tonumber(ARGV[1])
local pending, typing, reservation = KEYS[counters + 1], KEYS[counters + 2], KEYS[counters + 3]
local at = 2 + 3 * counters
local epoch, age, now = '', 0, 0
if reservation then
  epoch, age, now = epoch_of(KEYS[counters + 4], ARGV[at + 7])
  local reserved = redis.call('GET', reservation)
  if reserved then return {'reserved', 0, reserved, 0, epoch, age} end
end
for i = 1, counters do
  local count = tonumber(redis.call('GET', KEYS[i]) or '0')
  if count + tonumber(ARGV[3 * i + 1]) > tonumber(ARGV[3 * i - 1]) then
    return {'limited', i - 1, count, redis.call('PTTL', KEYS[i]), epoch, age}
  end
end
for i = 1, counters do
  redis.call('INCRBY', KEYS[i], ARGV[3 * i + 1])
  if redis.call('PTTL', KEYS[i]) < 0 then redis.call('PEXPIRE', KEYS[i], ARGV[3 * i]) end
end
if pending ~= '' then redis.call('SET', pending, ARGV[at], 'EX', ARGV[at + 1]) end
if typing ~= '' then redis.call('DEL', typing) end
if reservation then
  redis.call('SET', reservation, ARGV[at + 5], 'EX', ARGV[at + 6])
  local mark, early = KEYS[counters + 5], ARGV[at + 2] - now
  if early > tonumber(ARGV[at + 3]) and tonumber(ARGV[at + 2]) > tonumber(redis.call('GET', mark) or '0') then
    redis.call('SET', mark, ARGV[at + 2], 'PX', string.format('%.0f', early + ARGV[at + 4]))
  end
end
return {'admitted', 0, tonumber(redis.call('GET', KEYS[1])), redis.call('PTTL', KEYS[1]), epoch, age}
