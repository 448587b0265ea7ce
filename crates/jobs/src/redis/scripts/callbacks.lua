-- Hands out messages that are due, and puts each off: ID, URL and how often it was tried.
local most, now, again = arg(), arg(), arg()
local due = {}
insist()
for idx, id in ipairs(call('ZRANGEBYSCORE', P .. 'callbacks', '-inf', now, 'LIMIT', 0, most)) do
  local job = key('job', id)
  local tried = call('HINCRBY', job, 'callback_tries', 1) - 1
  call('ZADD', P .. 'callbacks', again, id)
  due[idx] = { id, call('HGET', job, 'callback'), tried }
end
return due
