-- Writes what became of a job, if it is still as it was read: 1, else 0.
local id, rev = arg(), arg()
local job = key('job', id)
if (call('HGET', job, 'rev') or '0') ~= rev or call('EXISTS', job) == 0 then
  return 0
end
local before = leave(id)
call('HINCRBY', job, 'rev', 1)
for _ = 1, tonumber(arg()) do
  call('HSET', job, arg(), arg())
end
for _ = 1, tonumber(arg()) do
  call('HDEL', job, arg())
end
for _ = 1, tonumber(arg()) do
  tell(id, arg())
end
local state = call('HGET', job, 'state')
if state == 'done' or state == 'cancelled' then
  call('DEL', key('body', id))
end
enter(id, before)
local callback = arg()
if callback == 'never' then
  call('ZREM', P .. 'callbacks', id)
elseif callback ~= 'as it is' then
  call('ZADD', P .. 'callbacks', callback, id)
end
local answer = arg()
if answer then
  call('SET', key('answer', id), answer)
end
return 1
