-- Publishes how fresh partitions are, by Redis' clock. KEYS: the progress, the as-ofs. ARGV: the channel, the generation,
-- then of each partition its number, the next offset that its as-of needs, and the as-of in ms. An as-of counts only
-- once the progress is published that it needs, and never moves back.
local published = {}
for i = 3, #ARGV, 3 do
  local progress = redis.call('HGET', KEYS[1], ARGV[i])
  local known = redis.call('HGET', KEYS[2], ARGV[i])
  if progress and tonumber(progress) >= tonumber(ARGV[i + 1])
    and (not known or tonumber(known) < tonumber(ARGV[i + 2])) then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 2])
    table.insert(published, '@' .. ARGV[i] .. ':' .. ARGV[i + 2])
  end
end
if #published > 0 then redis.call('PUBLISH', ARGV[1], ARGV[2] .. ' ' .. table.concat(published, ' ')) end
return #published
