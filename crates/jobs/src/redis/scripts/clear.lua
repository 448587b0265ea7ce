-- Takes up to so many jobs of a set whose time has come a step further; returns how many.
local set, time, most = arg(), arg(), arg()
local ids = call('ZRANGEBYSCORE', P .. set, '-inf', time, 'LIMIT', 0, most)
for _, id in ipairs(ids) do
  if set == 'due' then
    change_to(id, 'queued')
  elseif set == 'expiring' then
    change_to(id, 'expired')
    call('DEL', key('body', id), key('answer', id))
  else
    forget(id)
  end
end
return #ids
