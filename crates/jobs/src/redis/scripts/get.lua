-- What is known of a job, and its history.
local id = arg()
return { call('HGETALL', key('job', id)), call('LRANGE', key('history', id), 0, -1) }
