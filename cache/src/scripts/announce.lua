-- After a commit: gives the heads that changed new stamps, then announces progress. Heads that nobody has
-- asked for have no views that depend on them and are left out.
-- KEYS: progress, epoch of reservations, then heads. ARGV: a fresh stamp, the channel, the generation, the number of steps, then
-- partition, from, to of each step.
-- Returns partition and next offset of each step from which Redis is behind (it lost what it had been told):
-- those are not announced, for heads between there and `from` may not have moved. What it lost may have been
-- reservations, too: their epoch ends.
for i = 3, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then redis.call('SET', KEYS[i], ARGV[1], 'KEEPTTL') end
end
local behind, announced = {}, {}
for step = 1, tonumber(ARGV[4]) do
  local at = 5 + (step - 1) * 3
  local partition, from, to = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local known = redis.call('HGET', KEYS[1], partition)
  if known and tonumber(known) < from then
    table.insert(behind, partition)
    table.insert(behind, known)
  else
    if not known or tonumber(known) < to then redis.call('HSET', KEYS[1], partition, ARGV[at + 2]) end
    table.insert(announced, partition .. ':' .. ARGV[at + 2])
  end
end
if #behind > 0 then redis.call('DEL', KEYS[2]) end
if #announced > 0 then redis.call('PUBLISH', ARGV[2], ARGV[3] .. ' ' .. table.concat(announced, ' ')) end
return behind
