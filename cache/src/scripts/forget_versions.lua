-- Deletes new versions that no view was stored with. KEYS: the versions. ARGV: their values; another value stays.
for i = 1, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[i] then redis.call('DEL', KEYS[i]) end
end
return 1
