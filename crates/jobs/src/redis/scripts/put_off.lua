-- Takes a message back that was not tried, and is due then. One that was told of meanwhile stays as it is.
local id, again = arg(), arg()
if call('ZSCORE', P .. 'callbacks', id) then
  insist()
  call('HINCRBY', key('job', id), 'callback_tries', -1)
  call('ZADD', P .. 'callbacks', again, id)
end
