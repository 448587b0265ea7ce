-- Submits anew what a job that failed asked: new, draining, or the state of one that did not fail.
local COPIED = {
  'caller', 'model', 'priority', 'total', 'time_limit', 'ttl', 'retries', 'form', 'content_type', 'header_len',
  'callback',
  -- A job that was dangerous still is.
  'alone',
}
local of, id, now = arg(), arg(), arg()
local state = call('HGET', key('job', of), 'state')
if state ~= 'failed' and state ~= 'dead' then
  return state
end
if call('GET', P .. 'gate') == 'draining' then
  return 'draining'
end
local job = key('job', id)
call('HSET', job, 'seq', call('INCR', P .. 'seq'), 'state', 'queued', 'created', now, 'replay_of', of)
for idx, value in ipairs(call('HMGET', key('job', of), unpack(COPIED))) do
  if value then
    call('HSET', job, COPIED[idx], value)
  end
end
call('SET', key('body', id), call('GET', key('body', of)) or '')
add(id)
tell(of, now .. ' replayed by ' .. id)
return 'new'
