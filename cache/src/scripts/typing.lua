-- A typing start. KEYS: the mark that a user types. ARGV: how long it lasts and how long a repeat adds nothing, in ms.
-- Returns 1 when the start counts, 0 when it repeats one.
local left = redis.call('PTTL', KEYS[1])
if left > tonumber(ARGV[1]) - tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], 1, 'PX', ARGV[1])
return 1
