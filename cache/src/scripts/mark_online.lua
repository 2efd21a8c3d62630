-- A user's first socket on a node. KEYS: the user's nodes, when the user was last seen, all nodes, the node's users.
-- ARGV: the node, last seen's TTL in s, the user. Returns 1 if a live node had the user online already. All times are
-- Redis' own, in ms.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local was = 0
for _, node in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local alive = redis.call('ZSCORE', KEYS[3], node)
  if alive and tonumber(alive) > now then was = 1 end
end
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], now, 'EX', ARGV[2])
redis.call('SADD', KEYS[4], ARGV[3])
return was
