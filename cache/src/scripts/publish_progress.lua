-- After a commit: changes the versions of its dependencies, then publishes its progress. No view depends on a version
-- that nobody has asked for, so missing versions stay missing.
-- KEYS: the progress, the version of the progress, the epoch of reservations, then the versions. ARGV: a fresh version,
-- the channel, the generation, the number of advances, then partition, from and to of each advance.
-- Returns the partition and the known next offset of each advance that Redis is behind of, because it lost what it
-- knew. These are not published: between there and `from`, versions may not have changed. Redis may have lost
-- reservations as well, so their epoch ends, unless reservations are in another instance: there is no epoch here then. Of a partition that Redis doesn't know, nobody can tell whose versions
-- changed: the version of the progress changes, on which every view depends.
local function change_version(key)
  if redis.call('EXISTS', key) == 1 then redis.call('SET', key, ARGV[1], 'KEEPTTL') end
end
for i = 4, #KEYS do change_version(KEYS[i]) end
local behind, published = {}, {}
for advance = 1, tonumber(ARGV[4]) do
  local at = 5 + (advance - 1) * 3
  local partition, from, to = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local known = redis.call('HGET', KEYS[1], partition)
  if known and tonumber(known) < from then
    table.insert(behind, partition)
    table.insert(behind, known)
  else
    if not known then change_version(KEYS[2]) end
    if not known or tonumber(known) < to then redis.call('HSET', KEYS[1], partition, ARGV[at + 2]) end
    table.insert(published, partition .. ':' .. ARGV[at + 2])
  end
end
if #behind > 0 then redis.call('DEL', KEYS[3]) end
if #published > 0 then redis.call('PUBLISH', ARGV[2], ARGV[3] .. ' ' .. table.concat(published, ' ')) end
return behind
