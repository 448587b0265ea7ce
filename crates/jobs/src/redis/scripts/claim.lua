-- Hands out jobs, by priority and then by number: for each what its lease says, and its body.
local most, is_idle, now, enough_bytes, held = tonumber(arg()), arg() == '1', arg(), tonumber(arg()), arg()
local leases, n_bytes = {}, 0

local function hand_out(id)
  local job = key('job', id)
  leave(id)
  call('HSET', job, 'state', 'running', 'started', now, 'untold', 1, 'lease', held)
  call('HDEL', job, 'done')
  call('HINCRBY', job, 'rev', 1)
  local token, attempt = call('HINCRBY', job, 'token', 1), call('HINCRBY', job, 'attempts', 1)
  enter(id, 'queued')
  local lease =
    call('HMGET', job, 'alone', 'model', 'form', 'total', 'time_limit', 'content_type', 'header_len')
  leases[#leases + 1] = { id, token, attempt, lease, call('GET', key('body', id)) or '' }
end

if call('GET', P .. 'gate') == 'paused' then
  return leases
end
for priority = 1, 9 do
  if #leases >= most then
    break
  end
  for _, id in ipairs(call('ZRANGE', key('queued', priority), 0, most - #leases - 1)) do
    if call('HGET', key('job', id), 'alone') then
      if is_idle and #leases == 0 then
        hand_out(id)
      end
      return leases
    end
    if n_bytes >= enough_bytes then
      return leases
    end
    n_bytes = n_bytes + call('STRLEN', key('body', id))
    hand_out(id)
  end
end
return leases
