-- Takes an admission back when its event was refused. KEYS: counter, reservation (only with a key).
-- ARGV: the event.
if redis.call('EXISTS', KEYS[1]) == 1 and tonumber(redis.call('GET', KEYS[1])) > 0 then
  redis.call('DECR', KEYS[1])
end
if KEYS[2] and redis.call('HGET', KEYS[2], 'event') == ARGV[1]
  and redis.call('HEXISTS', KEYS[2], 'position') == 0 then
  redis.call('DEL', KEYS[2])
end
return 1
