-- Looks at up to so many jobs of a state from a number on, and removes those that are meant: { the last
-- number or nothing, how many were removed }.
local state, after, most, model, created_before = arg(), arg(), arg(), arg(), tonumber(arg())
local found = call('ZRANGEBYSCORE', P .. state, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, most)
local n_removed = 0
for idx = 1, #found, 2 do
  local of, created = unpack(call('HMGET', key('job', found[idx]), 'model', 'created'))
  if (model == '' or of == model) and (not created_before or tonumber(created) < created_before) then
    forget(found[idx])
    n_removed = n_removed + 1
  end
end
return { found[#found] or false, n_removed }
