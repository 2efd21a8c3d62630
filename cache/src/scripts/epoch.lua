-- Since when every reservation was kept, and for how long that is, in ms. Begins now where Redis doesn't know.
local function epoch_of(key, fresh_id)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local epoch = redis.call('GET', key)
  if not epoch then
    epoch = string.format('%.0f %s', now, fresh_id)
    redis.call('SET', key, epoch)
  end
  return epoch, now - tonumber(string.match(epoch, '^%d+'))
end

