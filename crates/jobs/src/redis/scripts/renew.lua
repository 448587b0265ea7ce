-- Notes signs of life, each ID, TOKEN, DONE: for each 1 if the hold still counts, else 0.
local counts = {}
insist()
while cursor < #ARGV do
  local job, token, done = key('job', arg()), arg(), arg()
  local state, held = unpack(call('HMGET', job, 'state', 'token'))
  local holds = state == 'running' and held == token
  if holds then
    call('HINCRBY', job, 'beats', 1)
    call('HINCRBY', job, 'rev', 1)
    call('HSET', job, 'done', done)
  end
  counts[#counts + 1] = holds and 1 or 0
end
return counts
