-- What every script begins with. KEYS[1] is what the names of all keys begin with. Behind it:
--
--   job:ID                        hash: what is known of a job; what is 0, false or none is left out
--   body:ID, answer:ID            bytes
--   history:ID                    list: "MILLIS TEXT", oldest first
--   key:NAME                      "ID DIGEST": the job under an idempotency key, and its submission
--   scheduled, queued:PRIORITY,
--   running, done, failed, dead,
--   cancelled, expired            sorted by number: the jobs in this state; each is in one of these
--   model:NAME                    sorted by number: the jobs of a model
--   due                           those scheduled, by when they may begin
--   expiring, forgetting          those that have ended, by when their answers go; then by when they ended
--   callbacks                     those that somebody is to be told of, by when
--   unfinished                    hash: how many jobs of a caller have not ended
--   seq, gate, format             the last number; open, paused or draining; how all this is laid out
--
-- A job's number grows in the order of arrival. Its field `rev` grows with each change, so that who has
-- read it can write only if nobody else did meanwhile.

local P, cursor, call = KEYS[1], 0, redis.call
local open = { scheduled = true, queued = true, running = true }
local MOST_EVENTS = 50

local function arg()
  cursor = cursor + 1
  return ARGV[cursor]
end

local function key(kind, name)
  return P .. kind .. ':' .. name
end

-- The set of a state.
local function place(state, priority)
  return state == 'queued' and key('queued', priority) or P .. state
end

-- Without memory, Redis refuses the first command of a script that may need some, and none after a
-- command that needs none. What has been taken in must be able to end all the same.
local function insist()
  call('DEL', P .. 'nothing')
end

-- Takes a job out of the sets of its state; returns the state.
local function leave(id)
  local state, priority = unpack(call('HMGET', key('job', id), 'state', 'priority'))
  call('ZREM', place(state, priority), id)
  if state == 'scheduled' then
    call('ZREM', P .. 'due', id)
  elseif not open[state] then
    call('ZREM', P .. (state == 'expired' and 'forgetting' or 'expiring'), id)
  end
  return state
end

-- Puts a job into the sets of its state. `before` is the state it had.
local function enter(id, before)
  local state, priority, seq, caller, not_before, ended, expires, callback =
    unpack(call('HMGET', key('job', id), 'state', 'priority', 'seq', 'caller', 'not_before', 'ended', 'expires', 'callback'))
  call('ZADD', place(state, priority), seq, id)
  if state == 'scheduled' then
    call('ZADD', P .. 'due', not_before, id)
  elseif state == 'expired' then
    call('ZADD', P .. 'forgetting', ended, id)
  elseif not open[state] then
    call('ZADD', P .. 'expiring', expires, id)
  end
  if open[before] and not open[state] then
    if call('HINCRBY', P .. 'unfinished', caller, -1) == 0 then
      call('HDEL', P .. 'unfinished', caller)
    end
    if callback then
      call('ZADD', P .. 'callbacks', ended, id)
    end
  end
end

-- Puts a job that is new into all sets.
local function add(id)
  local model, caller, seq = unpack(call('HMGET', key('job', id), 'model', 'caller', 'seq'))
  call('ZADD', key('model', model), seq, id)
  call('HINCRBY', P .. 'unfinished', caller, 1)
  enter(id)
end

local function change_to(id, state)
  local before = leave(id)
  call('HSET', key('job', id), 'state', state)
  call('HINCRBY', key('job', id), 'rev', 1)
  enter(id, before)
end

-- Removes a job that has ended, with all that is known of it.
local function forget(id)
  local model, name = unpack(call('HMGET', key('job', id), 'model', 'key'))
  leave(id)
  call('ZREM', key('model', model), id)
  call('ZREM', P .. 'callbacks', id)
  if name then
    call('DEL', key('key', name))
  end
  call('DEL', key('job', id), key('body', id), key('answer', id), key('history', id))
end

local function tell(id, line)
  call('RPUSH', key('history', id), line)
  call('LTRIM', key('history', id), -MOST_EVENTS, -1)
end

