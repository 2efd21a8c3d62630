-- Takes an admission back after Kafka refused its event. KEYS: the counter, the pending entity (empty: none), the
-- reservation (only with a key). ARGV: the event (only with a key).
if redis.call('EXISTS', KEYS[1]) == 1 and tonumber(redis.call('GET', KEYS[1])) > 0 then
  redis.call('DECR', KEYS[1])
end
if KEYS[2] ~= '' then redis.call('DEL', KEYS[2]) end
if KEYS[3] and redis.call('HGET', KEYS[3], 'event') == ARGV[1]
  and redis.call('HEXISTS', KEYS[3], 'position') == 0 then
  redis.call('DEL', KEYS[3])
end
return 1
