-- Every job that somebody holds: ID, token, signs of life, how many milliseconds there may be none.
local held = {}
for idx, id in ipairs(call('ZRANGE', P .. 'running', 0, -1)) do
  local token, beats, lease = unpack(call('HMGET', key('job', id), 'token', 'beats', 'lease'))
  held[idx] = { id, token, beats or '0', lease }
end
return held
