-- A user's last socket on a node ended. KEYS: the user's nodes, when the user was last seen, all nodes, the node's
-- users. ARGV: the node, how many ms ago it ended, last seen's TTL in s, the user. If no other live node has the user
-- online, returns when any node last saw the user (nodes report in any order); otherwise nil. All times are Redis' own,
-- in ms.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SREM', KEYS[1], ARGV[1])
redis.call('SREM', KEYS[4], ARGV[4])
local seen = now - ARGV[2]
local before = tonumber(redis.call('GET', KEYS[2]) or 0)
if before > seen then seen = before end
redis.call('SET', KEYS[2], seen, 'EX', ARGV[3])
for _, node in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local alive = redis.call('ZSCORE', KEYS[3], node)
  if alive and tonumber(alive) > now then return false end
end
return seen
