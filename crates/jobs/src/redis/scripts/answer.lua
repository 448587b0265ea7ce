-- The answer of a job, which is there from its end until it expires: media type, length of the JSON
-- part, bytes; or nothing.
local id = arg()
local body = call('GET', key('answer', id))
if not body then
  return false
end
local content_type, header_len = unpack(call('HMGET', key('job', id), 'answer_type', 'answer_header_len'))
return { content_type or '', header_len, body }
