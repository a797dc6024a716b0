-- Appends records to a stream, once: a batch whose number the writer has used before changes nothing.
-- KEYS: the stream, the writer's mark. ARGV: the batch's number, how many records to keep, the mark's life in ms, records.
if tonumber(ARGV[1]) <= tonumber(redis.call('GET', KEYS[2]) or '0') then
  return 0
end
for i = 4, #ARGV do
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'record', ARGV[i])
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3])
return #ARGV - 3
