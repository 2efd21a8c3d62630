-- A node's last socket of a user ended. KEYS: presence, last seen. ARGV: node, now in ms, last seen's TTL in s.
-- Returns 1 when no other node has the user.
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[2])
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
return redis.call('ZCARD', KEYS[1]) == 0 and 1 or 0
