-- The stamps of heads; one that is missing gets a stamp that it never had. KEYS: heads. ARGV: TTL in
-- seconds, then a fresh stamp for each head.
local stamps = {}
for i, key in ipairs(KEYS) do
  local stamp = redis.call('GETEX', key, 'EX', ARGV[1])
  if not stamp then
    stamp = ARGV[i + 1]
    redis.call('SET', key, stamp, 'EX', ARGV[1])
  end
  stamps[i] = stamp
end
return stamps
