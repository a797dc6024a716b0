-- One replica's word on what is learnt of one account, and what holds. `board.py` states the rules; this is the same,
-- word for word. Commands: TIME, HGETALL, HSET, HDEL, PEXPIRE. All up to Redis 6.2.
--
-- KEYS[1]  spillgate:{account}:lesson, a hash: `head`, `m:<kind>` a mark, `r:<replica>` a row
-- ARGV     a time in milliseconds to use instead of the server's, or ''; replica; seq; ttl; flags (l leaving, w willing,
--          p probing); its row; then kind and mark, in turn. A mark begins with cuts, raises and limit.
-- Answers  {prober, field, value, ...}, or {'', 'stale', ''}

local LEAP, KEEP = 1500, 900000
local key, me, seq, ttl, flags = KEYS[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]

local function has(flag) return string.find(flags, flag, 1, true) ~= nil end
local function whole(number) return string.format('%.0f', number) end

local time = tonumber(ARGV[1])
if not time then
  local t = redis.call('TIME')
  time = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

local fields, marks, rows, found = {}, {}, {}, redis.call('HGETALL', key)
for i = 1, #found, 2 do
  local name, value = found[i], found[i + 1]
  local what = string.sub(name, 1, 2)
  if what == 'm:' then marks[string.sub(name, 3)] = value
  elseif what == 'r:' then rows[string.sub(name, 3)] = value
  else fields[name] = value end
end

if rows[me] and seq <= tonumber(string.match(rows[me], '^%d+')) then return {'', 'stale', ''} end

local last, clock, born, ends, prober = string.match(fields.head or '', '^(%d+) (%d+) (%d+) (%d+) (.*)$')
if last then
  last, clock, born, ends = tonumber(last), tonumber(clock), tonumber(born), tonumber(ends)
else
  last, clock, born, ends, prober = time, time, time, 0, ''
end
clock = clock + math.min(math.max(time - last, 0), LEAP)

local new, gone = {}, {}
local function rank(mark)
  local cuts, raises, limit = string.match(mark, '^(%d+) (%d+) (%S+)')
  return tonumber(cuts), tonumber(raises), -tonumber(limit)
end
local function beats(one, other)
  if not other then return true end
  local a, b, c = rank(one)
  local d, e, f = rank(other)
  if a ~= d then return a > d end
  if b ~= e then return b > e end
  return c > f
end
for i = 7, #ARGV, 2 do
  local kind, mark = ARGV[i], ARGV[i + 1]
  if beats(mark, marks[kind]) then
    marks[kind] = mark
    new[#new + 1] = 'm:' .. kind
    new[#new + 1] = mark
  end
end

if has('l') then
  if rows[me] then gone[#gone + 1] = 'r:' .. me end
  rows[me] = nil
else
  rows[me] = whole(seq) .. ' ' .. whole(clock) .. ' ' .. ARGV[6]
  new[#new + 1] = 'r:' .. me
  new[#new + 1] = rows[me]
end
for name, row in pairs(rows) do
  if clock > tonumber(string.match(row, '^%d+ (%d+)')) + ttl then
    gone[#gone + 1] = 'r:' .. name
    rows[name] = nil
  end
end

if prober ~= me and clock > ends then prober = '' end
if not has('w') or has('l') then
  if prober == me then prober = '' end
elseif prober == me or (prober == '' and (has('p') or clock >= born + ttl)) then
  prober, ends = me, clock + ttl
end

new[#new + 1] = 'head'
new[#new + 1] = whole(time) .. ' ' .. whole(clock) .. ' ' .. whole(born) .. ' ' .. whole(ends) .. ' ' .. prober
redis.call('HSET', key, unpack(new))
if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
redis.call('PEXPIRE', key, KEEP)

local answer = {prober}
for kind, mark in pairs(marks) do
  answer[#answer + 1] = 'm:' .. kind
  answer[#answer + 1] = mark
end
for name, row in pairs(rows) do
  answer[#answer + 1] = 'r:' .. name
  answer[#answer + 1] = string.match(row, '^%d+ %d+ (.*)$')
end
return answer
