-- One replica's word on one budget's period, and up to where it may spend. `purse.py` states the rules; this grants
-- the same, number for number. Commands: TIME, HGETALL, HSET, HDEL, DEL, PEXPIRE; cmsgpack. All up to Redis 6.2.
--
-- KEYS[1]  a hash: 'gen', and one field per member, named ':' and its name: "total cap seen seq"
-- ARGV[1]  the ask (msgpack)    ARGV[2]  '' or a time in milliseconds to use instead of the server's

local TTL, KEEP, LATE, MOST, GONE = 30000, 86400000, 3600000, 64, '*'
local max, min, floor = math.max, math.min, math.floor

local key = KEYS[1]
local name, seq, amount, total, cap, need, least, want, gen, told, leaving, life = unpack(cmsgpack.unpack(ARGV[1]))
local now = tonumber(ARGV[2])
if not now then
  local t = redis.call('TIME')
  now = tonumber(t[1]) * 1000 + floor(tonumber(t[2]) / 1000)
end

local members, count, stored_gen = {}, 0, 0
local stored = redis.call('HGETALL', key)
for i = 1, #stored, 2 do
  if stored[i] == 'gen' then
    stored_gen = tonumber(stored[i + 1])
  else
    local a, b, c, d = string.match(stored[i + 1], '^(%d+) (%d+) (-?%d+) (-?%d+)$')
    members[string.sub(stored[i], 2)] = {tonumber(a), tonumber(b), tonumber(c), tonumber(d)}
    count = count + 1
  end
end

local changed = {}
local function member(who, seen)
  if not members[who] then
    members[who] = {0, 0, seen, -1}
    changed[who] = true
    count = count + 1
  end
  return members[who]
end

local afresh = gen > stored_gen
if afresh then
  members, count, stored_gen = {}, 0, gen
end
if gen == stored_gen then
  for who, most in pairs(told) do
    local known = member(who, now)
    if most > known[1] then
      known[1] = most
      changed[who] = true
    end
  end
end

local me = member(name, now)
changed[name] = true
local answer = false
if seq > me[4] then
  me[1], me[3], me[4] = max(me[1], total), now, seq
  local held, live = 0, 1
  for who, m in pairs(members) do
    if who ~= name then
      held = held + m[1]
      if now - m[3] <= TTL and m[2] > m[1] then
        held = held + m[2] - m[1]
        live = live + 1
      end
    end
  end
  local free = max(0, amount - held - max(me[1], cap))
  local more = min(free, max(need, min(want, floor(free / (2 * live)))))
  if need > 0 and free < least then
    more = 0
  end
  me[2] = cap + more
  if leaving then
    me[3] = now - KEEP + LATE
  end
  if me[2] == 0 then
    members[name], changed[name], count = nil, nil, count - 1
    redis.call('HDEL', key, ':' .. name)
  end
  if count > MOST then
    local gone = 0
    local left = {}
    for who, m in pairs(members) do
      if who ~= GONE and now - m[3] >= KEEP then
        gone = gone + m[1]
        left[#left + 1] = who
      end
    end
    if #left > 0 then
      afresh = true
      stored_gen = stored_gen + 1
      local sum = member(GONE, 0)
      sum[1] = sum[1] + gone
      for _, who in ipairs(left) do members[who] = nil end
    end
  end
  local totals = {}
  for who, m in pairs(members) do totals[who] = m[1] end
  answer = {me[2], free - more, live, stored_gen, next(totals) and totals or false}
end

if afresh then
  redis.call('DEL', key)
  changed = members
end
for who in pairs(changed) do
  local m = members[who]
  redis.call('HSET', key, ':' .. who, string.format('%.0f %.0f %.0f %.0f', m[1], m[2], m[3], m[4]))
end
if not next(members) then
  return cmsgpack.pack(answer)
end
redis.call('HSET', key, 'gen', string.format('%.0f', stored_gen))
if answer then
  redis.call('PEXPIRE', key, string.format('%.0f', life))
end
return cmsgpack.pack(answer)
