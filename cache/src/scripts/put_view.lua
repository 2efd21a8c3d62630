-- Stores a view, unless a version has changed since its values were read: nobody would find it then.
-- KEYS: the view, then the versions that it depends on. ARGV: the view as stored, its TTL in s, the TTL of the versions
-- in s, the page size (empty: the view is no list), the largest number of page sizes, the largest number of bytes of
-- all page sizes together, then the versions.
-- A list is a hash of page size to view. Its latest views stay, as far as both bounds allow.
for i = 2, #KEYS do
  if redis.call('GET', KEYS[i]) ~= ARGV[i + 5] then return 0 end
end
for i = 2, #KEYS do redis.call('EXPIRE', KEYS[i], ARGV[3]) end
local size = ARGV[4]
if size == '' then
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
  return 1
end
local sizes, count, bytes = size, 1, #ARGV[1]
for earlier in string.gmatch(redis.call('HGET', KEYS[1], 'sizes') or '', '%d+') do
  if earlier ~= size then
    bytes = bytes + redis.call('HSTRLEN', KEYS[1], earlier)
    if count < tonumber(ARGV[5]) and bytes <= tonumber(ARGV[6]) then
      sizes, count = sizes .. ' ' .. earlier, count + 1
    else
      redis.call('HDEL', KEYS[1], earlier)
    end
  end
end
redis.call('HSET', KEYS[1], size, ARGV[1], 'sizes', sizes)
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
