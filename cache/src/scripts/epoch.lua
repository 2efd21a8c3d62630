-- The epoch in which Redis has lost no reservation, its age in ms, and the time in ms. Begins one now if Redis has none.
local function epoch_of(key, fresh_id)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local epoch = redis.call('GET', key)
  if not epoch then
    epoch = string.format('%.0f %s', now, fresh_id)
    redis.call('SET', key, epoch)
  end
  return epoch, now - tonumber(string.match(epoch, '^%d+')), now
end

