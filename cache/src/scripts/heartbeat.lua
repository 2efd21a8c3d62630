-- Keeps a node alive. KEYS: all nodes. ARGV: the node, for how many ms. By Redis' clock: nodes' clocks may differ.
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2], ARGV[1])
return 0
