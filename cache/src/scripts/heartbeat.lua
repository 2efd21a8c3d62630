-- Keeps a node alive, and what it says about itself. KEYS: all nodes, the node's counts. ARGV: the node, for how many ms,
-- the counts. By Redis' clock: nodes' clocks may differ.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('SET', KEYS[2], ARGV[3] .. ' ' .. now, 'PX', ARGV[2])
return 0
