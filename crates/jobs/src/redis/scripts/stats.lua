-- { scheduled, queued, running, dead, when the oldest of those queued was taken in, gate }
local n_queued, oldest, least = 0, nil, nil
for priority = 1, 9 do
  local set = key('queued', priority)
  n_queued = n_queued + call('ZCARD', set)
  local id, seq = unpack(call('ZRANGE', set, 0, 0, 'WITHSCORES'))
  if id and (not least or tonumber(seq) < least) then
    oldest, least = id, tonumber(seq)
  end
end
return {
  call('ZCARD', P .. 'scheduled'),
  n_queued,
  call('ZCARD', P .. 'running'),
  call('ZCARD', P .. 'dead'),
  oldest and call('HGET', key('job', oldest), 'created') or false,
  call('GET', P .. 'gate'),
}
