-- One call that several replicas listen to. All keys in one hash slot.
--   KEYS: lease (the token of the replica that calls, while it lives), want (somebody elsewhere listens), frames (a list)
--   ARGV claim:    "claim", token, lease ttl (ms), want ttl                      -> the token of the one who calls
--   ARGV publish:  "publish", token, lease ttl, frames ttl, start, last, item…   -> {wanted, length, over}
--   ARGV read:     "read", token, want ttl, from, to                            -> {alive, item…}
local lease, want, frames = KEYS[1], KEYS[2], KEYS[3]
local verb, token = ARGV[1], ARGV[2]
local holder = redis.call('GET', lease)

if verb == 'claim' then
  if not holder then
    redis.call('SET', lease, token, 'PX', ARGV[3])
    return token
  end
  redis.call('SET', want, '1', 'PX', ARGV[4])
  return holder
end

if verb == 'read' then
  redis.call('SET', want, '1', 'PX', ARGV[3])
  local found = redis.call('LRANGE', frames, ARGV[4], ARGV[5])
  table.insert(found, 1, holder == token and '1' or '0')
  return found
end

-- publish: what was said twice is written once, since the writer says where it begins
if holder and holder ~= token then return {0, 0, 1} end
local length = redis.call('LLEN', frames)
if #ARGV > 6 and length == tonumber(ARGV[5]) then
  for i = 7, #ARGV do redis.call('RPUSH', frames, ARGV[i]) end
  length = length + #ARGV - 6
end
redis.call('PEXPIRE', frames, ARGV[4])
local wanted = redis.call('EXISTS', want)
-- The lease ends with the last word, and not before somebody who listens has all of it.
local last = tonumber(ARGV[6])
local over = last > 0 and (wanted == 0 or length >= last) and 1 or 0
if over == 1 then
  redis.call('DEL', lease)
else
  redis.call('SET', lease, token, 'PX', ARGV[3])
end
return {wanted, length, over}
