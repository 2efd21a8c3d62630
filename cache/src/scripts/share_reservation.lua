-- Notes that another attempt appends a reserved event, too. From then on, Kafka's refusal of one attempt no longer frees
-- the key. KEYS: the reservation. ARGV: what it held when the attempt read it. Returns what it holds now, or nothing if
-- that is something else.
local reserved = redis.call('GET', KEYS[1])
if reserved ~= ARGV[1] and reserved ~= ARGV[1] .. ' ' then return false end
-- White space after the JSON of an event changes nothing but the comparison with what the first attempt reserved.
if string.sub(reserved, -1) == ' ' then return reserved end
redis.call('SET', KEYS[1], reserved .. ' ', 'KEEPTTL')
return reserved .. ' '
