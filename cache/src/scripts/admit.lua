-- Counts a command against its user's limits, reserves its idempotency key, records the entity that it creates and ends
-- its user's typing: all or nothing. While Redis is full, a command without anything but counters still counts.
-- Every key and channel begins with the prefix, because a user of Redis may be allowed no others: what a command
-- doesn't need is missing in KEYS, never empty.
-- KEYS: the counters, the pending entity (if there is one), the mark that the user types (if it ends), then only with a
-- key: the reservation, the epoch, the mark of keys that were used before their time.
-- ARGV: the number of counters, of each its limit, its window in ms and what the command adds to it, the pending
-- entity's JSON (empty: none), its TTL in s, 1 if the mark that the user types ends, else 0, then only with a key: its
-- time in ms (0: none), how long before its time it may be used and how long after it it is fresh, both in ms, the
-- event, the reservation's TTL in s, a fresh id.
-- Returns the outcome, three values that depend on it, the epoch and its age in ms. The values are the number of the
-- counter (from 0), its count and its TTL in ms; of a reservation, the second is what the key is reserved for.
local counters = tonumber(ARGV[1])
local at, next_key = 2 + 3 * counters, counters + 1
local pending, typing
if ARGV[at] ~= '' then pending, next_key = KEYS[next_key], next_key + 1 end
if ARGV[at + 2] == '1' then typing, next_key = KEYS[next_key], next_key + 1 end
local reservation = KEYS[next_key]
local epoch, age, now = '', 0, 0
if reservation then
  epoch, age, now = epoch_of(KEYS[next_key + 1], ARGV[at + 8])
  local reserved = redis.call('GET', reservation)
  if reserved then return {'reserved', 0, reserved, 0, epoch, age} end
end
for i = 1, counters do
  local count = tonumber(redis.call('GET', KEYS[i]) or '0')
  if count + tonumber(ARGV[3 * i + 1]) > tonumber(ARGV[3 * i - 1]) then
    return {'limited', i - 1, count, redis.call('PTTL', KEYS[i]), epoch, age}
  end
end
if next_key == counters + 1 and not reservation then write_although_full(KEYS[1]) end
for i = 1, counters do
  redis.call('INCRBY', KEYS[i], ARGV[3 * i + 1])
  if redis.call('PTTL', KEYS[i]) < 0 then redis.call('PEXPIRE', KEYS[i], ARGV[3 * i]) end
end
if pending then redis.call('SET', pending, ARGV[at], 'EX', ARGV[at + 1]) end
if typing then redis.call('DEL', typing) end
if reservation then
  redis.call('SET', reservation, ARGV[at + 6], 'EX', ARGV[at + 7])
  local mark, early = KEYS[next_key + 2], ARGV[at + 3] - now
  if early > tonumber(ARGV[at + 4]) and tonumber(ARGV[at + 3]) > tonumber(redis.call('GET', mark) or '0') then
    redis.call('SET', mark, ARGV[at + 3], 'PX', string.format('%.0f', early + ARGV[at + 5]))
  end
end
return {'admitted', 0, tonumber(redis.call('GET', KEYS[1])), redis.call('PTTL', KEYS[1]), epoch, age}
