-- Takes a job in: { new | known | differs | draining, the job under its key }.
local id, name, digest, replaces, body = arg(), arg(), arg(), arg(), arg()
local known = name ~= '' and call('GET', key('key', name))
if known then
  local other = string.sub(known, 1, 32)
  if other ~= replaces or open[call('HGET', key('job', other), 'state')] then
    return { string.sub(known, 34) == digest and 'known' or 'differs', other }
  end
end
if call('GET', P .. 'gate') == 'draining' then
  return { 'draining', '' }
end
local seq = call('INCR', P .. 'seq')
if known then
  call('HDEL', key('job', replaces), 'key')
end
if name ~= '' then
  call('SET', key('key', name), id .. ' ' .. digest)
  call('HSET', key('job', id), 'key', name)
end
call('HSET', key('job', id), 'seq', seq, unpack(ARGV, cursor + 1))
call('SET', key('body', id), body)
add(id)
return { 'new', id }
