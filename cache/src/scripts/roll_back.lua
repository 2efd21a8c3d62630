-- Takes an admission back after Kafka refused its event, unless the key is now reserved for something else or shared with
-- another attempt, whose copy of the event may be on the log. KEYS: the counters, the pending entity (if there is one), the
-- reservation (only with a key). ARGV: the number of counters, what the command added to each, 1 if there is a pending
-- entity, else 0, the event (only with a key). Returns 1 if it was taken back, else 0.
local counters = tonumber(ARGV[1])
local next_key, pending = counters + 1, nil
if ARGV[counters + 2] == '1' then pending, next_key = KEYS[next_key], next_key + 1 end
local reservation = KEYS[next_key]
local reserved = reservation and redis.call('GET', reservation)
if reserved and reserved ~= ARGV[counters + 3] then return 0 end
write_although_full(KEYS[1])
for i = 1, counters do
  local count = tonumber(redis.call('GET', KEYS[i]) or '0')
  if count > 0 then redis.call('DECRBY', KEYS[i], math.min(count, tonumber(ARGV[i + 1]))) end
end
if pending then redis.call('DEL', pending) end
if reserved then redis.call('DEL', reservation) end
return 1
