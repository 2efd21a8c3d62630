-- The progress, and the stamps of heads; one that is missing gets a stamp that it never had. KEYS: progress, then
-- heads. ARGV: TTL in seconds, then a fresh stamp for each head.
local stamps = {}
for i = 2, #KEYS do
  local stamp = redis.call('GETEX', KEYS[i], 'EX', ARGV[1])
  if not stamp then
    stamp = ARGV[i]
    redis.call('SET', KEYS[i], stamp, 'EX', ARGV[1])
  end
  stamps[i - 1] = stamp
end
return {redis.call('HGETALL', KEYS[1]), stamps}
