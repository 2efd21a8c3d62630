-- A user's last socket on a node ended. KEYS: the user's nodes, when the user was last seen, all nodes, the node's
-- users. ARGV: the node, when it ended in ms, last seen's TTL in s, the user. If no other live node has the user
-- online, returns when any node last saw the user (nodes report in any order); otherwise nil.
redis.call('SREM', KEYS[1], ARGV[1])
redis.call('SREM', KEYS[4], ARGV[4])
local seen = redis.call('GET', KEYS[2])
if not seen or tonumber(seen) < tonumber(ARGV[2]) then seen = ARGV[2] end
redis.call('SET', KEYS[2], seen, 'EX', ARGV[3])
for _, node in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local alive = redis.call('ZSCORE', KEYS[3], node)
  if alive and tonumber(alive) > tonumber(ARGV[2]) then return false end
end
return tonumber(seen)
