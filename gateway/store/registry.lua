-- Changes the registry of tenants and keys, one hash, as a whole or not at all.
--
-- KEYS[1]  the hash; its field "token" names the state
-- ARGV[1]  "commit" or "restore"
-- ARGV[2]  commit: the token that was seen; restore: how many changes led to the state that is put back
-- ARGV[3]  the token from now on
-- ARGV[4]  how many fields are written; then those as name, value; then the names of those that are removed
--
-- Answers 1 if it was done, 0 if the state is another one.

local present = redis.call('HGET', KEYS[1], 'token') or ''
if ARGV[1] == 'commit' then
  if present ~= ARGV[2] then
    return 0
  end
else
  local count = tonumber(string.match(present, '^(%d+):') or '0')
  if tonumber(ARGV[2]) <= count then
    return 0
  end
  redis.call('DEL', KEYS[1])
end
local last = 4 + 2 * tonumber(ARGV[4])
for i = 5, last, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
for i = last + 1, #ARGV do
  redis.call('HDEL', KEYS[1], ARGV[i])
end
redis.call('HSET', KEYS[1], 'token', ARGV[3])
return 1
