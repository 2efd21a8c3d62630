-- A typing start or stop. KEYS: the mark that a user types, the counter. ARGV: the limit, its window in ms, then only
-- of a start: how long the mark lasts and how long another start is a repeat, in ms.
-- Returns the outcome, the count, and the counter's TTL in ms. A repeated start and a stop of nobody who types change
-- nothing. It counts also while Redis is full.
local left = redis.call('PTTL', KEYS[1])
local lasts, is_repeat = tonumber(ARGV[3]), tonumber(ARGV[4])
if (lasts and left > lasts - is_repeat) or (not lasts and left < 0) then return {'unchanged', 0, 0} end
local count = tonumber(redis.call('GET', KEYS[2]) or '0')
if count >= tonumber(ARGV[1]) then return {'limited', count, redis.call('PTTL', KEYS[2])} end
write_although_full(KEYS[2])
count = redis.call('INCR', KEYS[2])
if redis.call('PTTL', KEYS[2]) < 0 then redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
if lasts then redis.call('SET', KEYS[1], 1, 'PX', lasts) else redis.call('DEL', KEYS[1]) end
return {'counted', count, redis.call('PTTL', KEYS[2])}
