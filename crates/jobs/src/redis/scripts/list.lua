-- Looks at jobs in some states before a number, newest first: { the last number looked at or nothing,
-- { ID, what is known of it } for each that is meant }.
local before, n_look, most, model, created_before = arg(), tonumber(arg()), tonumber(arg()), arg(), tonumber(arg())
local sets, wanted, n_jobs = {}, {}, 0
while cursor < #ARGV do
  local state = arg()
  wanted[state] = true
  for priority = 1, state == 'queued' and 9 or 1 do
    local set = place(state, priority)
    sets[#sets + 1] = set
    n_jobs = n_jobs + call('ZCARD', set)
  end
end
if model ~= '' and call('ZCARD', key('model', model)) < n_jobs then
  sets = { key('model', model) }
end
local found = {}
for _, set in ipairs(sets) do
  local some = call('ZREVRANGEBYSCORE', set, '(' .. before, '-inf', 'WITHSCORES', 'LIMIT', 0, n_look)
  for idx = 1, #some, 2 do
    found[#found + 1] = { some[idx], tonumber(some[idx + 1]) }
  end
end
table.sort(found, function(one, other) return one[2] > other[2] end)
local jobs, last = {}, false
for idx = 1, math.min(#found, n_look) do
  if #jobs == most then
    break
  end
  local id = found[idx][1]
  last = found[idx][2]
  local state, of, created = unpack(call('HMGET', key('job', id), 'state', 'model', 'created'))
  local is_meant = wanted[state] and (model == '' or of == model)
  if is_meant and (not created_before or tonumber(created) < created_before) then
    jobs[#jobs + 1] = { id, call('HGETALL', key('job', id)) }
  end
end
return { last, jobs }
