-- Reads the progress and the versions of dependencies. A missing one gets a version that it never had before.
-- KEYS: the progress, then the versions. ARGV: the TTL of a new version in s, then a fresh version for each.
local versions = {}
for i = 2, #KEYS do
  local version = redis.call('GET', KEYS[i])
  if not version then
    version = ARGV[i]
    redis.call('SET', KEYS[i], version, 'EX', ARGV[1])
  end
  versions[i - 1] = version
end
return {redis.call('HGETALL', KEYS[1]), versions}
