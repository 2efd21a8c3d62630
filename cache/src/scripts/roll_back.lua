-- Takes an admission back after Kafka refused its event. KEYS: the counters, the pending entity (empty: none), the
-- reservation (only with a key). ARGV: the number of counters, what the command added to each, the event (only with a
-- key).
local counters = tonumber(ARGV[1])
local pending, reservation = KEYS[counters + 1], KEYS[counters + 2]
for i = 1, counters do
  local count = tonumber(redis.call('GET', KEYS[i]) or '0')
  if count > 0 then redis.call('DECRBY', KEYS[i], math.min(count, tonumber(ARGV[i + 1]))) end
end
if pending ~= '' then redis.call('DEL', pending) end
if reservation and redis.call('GET', reservation) == ARGV[counters + 2] then redis.call('DEL', reservation) end
return 1
