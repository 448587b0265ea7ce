-- Opens or closes the queue.
insist()
call('SET', P .. 'gate', arg())
