-- A typing start. KEYS: the mark that a user types. ARGV: how long it lasts and how long another start is a repeat, in
-- ms. Returns 1 if the start counts, 0 if it is a repeat.
local left = redis.call('PTTL', KEYS[1])
if left > tonumber(ARGV[1]) - tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], 1, 'PX', ARGV[1])
return 1
