-- Lets keys expire. KEYS: the keys. ARGV: of each its TTL in ms.
for i, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[i]) end
return #KEYS
