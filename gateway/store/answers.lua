-- Answers of one space, all keys in one hash slot.
--   KEYS: values (key -> entry; "gen" -> number of purges; "bytes" -> of all entries), index (key by expiry), info
--         (key -> size, time, tenant, model), spaces (names of all spaces)
--   ARGV keep:  "keep", space, key, entry, info, ttl (ms), most entries, most bytes, gen seen
--   ARGV drop:  "drop", space, key…
--   ARGV purged: "purged", space: what is being made now is not kept
local values, index, info, spaces = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local verb, space = ARGV[1], ARGV[2]

local function drop(key)
  local entry = redis.call('HSTRLEN', values, key)
  if entry > 0 then
    redis.call('HDEL', values, key)
    redis.call('HINCRBY', values, 'bytes', -entry)
  end
  redis.call('HDEL', info, key)
  return redis.call('ZREM', index, key)
end

if verb == 'purged' then
  return redis.call('HINCRBY', values, 'gen', 1)
end

if verb == 'drop' then
  local dropped = 0
  for i = 3, #ARGV do
    dropped = dropped + drop(ARGV[i])
  end
  return dropped
end

local key, entry, about = ARGV[3], ARGV[4], ARGV[5]
local ttl, most, most_bytes, seen = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9]
if (redis.call('HGET', values, 'gen') or '') ~= seen or #entry > most_bytes then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
drop(key)
for _, old in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, 64)) do
  drop(old)
end
local bytes = tonumber(redis.call('HGET', values, 'bytes') or '0')
while redis.call('ZCARD', index) >= most or bytes + #entry > most_bytes do
  local first = redis.call('ZRANGE', index, 0, 0)[1]
  if not first then break end
  drop(first)
  bytes = tonumber(redis.call('HGET', values, 'bytes') or '0')
end
redis.call('HSET', values, key, entry)
redis.call('HINCRBY', values, 'bytes', #entry)
redis.call('HSET', info, key, about)
redis.call('ZADD', index, now + ttl, key)
redis.call('SADD', spaces, space)
for _, name in ipairs({values, index, info, spaces}) do
  if redis.call('PTTL', name) < ttl then
    redis.call('PEXPIRE', name, ttl)
  end
end
return 1
