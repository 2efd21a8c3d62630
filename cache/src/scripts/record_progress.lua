-- Records the projector's progress in the instance of the reservations, where the published progress is in another one.
-- KEYS: the recorded progress, the epoch of reservations. ARGV: partition, from and to of each advance. Where an advance
-- doesn't follow on the recorded progress, Redis has lost something, perhaps reservations: their epoch ends.
for at = 1, #ARGV, 3 do
  local known = redis.call('HGET', KEYS[1], ARGV[at])
  if known and tonumber(known) < tonumber(ARGV[at + 1]) then redis.call('DEL', KEYS[2]) end
  if not known or tonumber(known) < tonumber(ARGV[at + 2]) then redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 2]) end
end
return 1
