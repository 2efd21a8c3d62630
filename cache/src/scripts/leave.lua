-- A node's last socket of a user ended. KEYS: the user's nodes, last seen, all nodes, the node's users. ARGV: node,
-- when in ms, last seen's TTL in s, user. Returns 1 when no other node that lives has the user.
redis.call('SREM', KEYS[1], ARGV[1])
redis.call('SREM', KEYS[4], ARGV[4])
for _, node in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local alive = redis.call('ZSCORE', KEYS[3], node)
  if alive and tonumber(alive) > tonumber(ARGV[2]) then return 0 end
end
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
return 1
