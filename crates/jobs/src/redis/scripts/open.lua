-- Notes how all is laid out, if nobody did so far; returns how it is.
insist()
call('SET', P .. 'format', arg(), 'NX')
return call('GET', P .. 'format')
