-- Lets a script count although Redis is full: it refuses a write that takes memory only to a script that has written
-- nothing yet. Counters are small and expire soon. KEY: any key; nothing happens to it.
local function write_although_full(key) redis.call('DEL', key .. ':none') end
