-- One replica's report on one account, and what it may hold from now on. `ledger.py` states the rules and why they
-- hold; this grants the same, number for number. Commands: INFO (may be forbidden), TIME, PTTL, HMGET, HSET, HDEL,
-- PEXPIRE; cmsgpack. All up to Redis 6.2.
--
-- KEYS[1]  a hash. '=t': the times. '=h': what rarely changes. One field per replica, named as the replica is.
-- KEYS[2]  the key of the layout before this one: while gateways write it, they have everything, and we nothing
-- ARGV[1]  the report (msgpack)    ARGV[2]  the names that the replica knows, by commas
-- ARGV[3]  '' or a time in milliseconds to use instead of the server's
--
-- A report costs what it takes to read everybody's numbers; only the reporter's own are written, and nothing is
-- decoded into more tables than there are replicas. A replica: {joined, seq, seen, spared, acked, left, crowd,
-- kind, limit, hold, used, want, unit, kind, …}.

local LEAP, TURN, STEADY, RESERVE = 500, 1000, 50, 100
local KEEP = 900000
local KINDS = {'streams', 'rpm', 'tpm', 'rps', 'tps', 'ramp'}
local SPANS = {streams = 0, rpm = 60500, tpm = 60500, rps = 1100, tps = 1100, ramp = 2100}
local JOINED, SEQ, SEEN, SPARED, ACKED, LEFT, CROWD, FIRST = 1, 2, 3, 4, 5, 6, 7, 8
local LIMIT, HOLD, USED, WANT, UNIT, WIDTH = 1, 2, 3, 4, 5, 6
local max, min, floor = math.max, math.min, math.floor

local name, seq, ttl, ghost, epoch, ack, crowd, leaving, alive, needs = unpack(cmsgpack.unpack(ARGV[1]))
local key = KEYS[1]

local function tail(kind) return max(SPANS[kind], ghost) end
local longest = max(60500, ghost)

if redis.call('PTTL', KEYS[2]) > KEEP - ttl - longest then return cmsgpack.pack({'', 0, 1, 1, false, false, false}) end

local function server_time()
  if ARGV[3] ~= '' then return tonumber(ARGV[3]) end
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + floor(tonumber(t[2]) / 1000)
end

local function run_id()
  local info = redis.pcall('INFO', 'server')
  return type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
end

-- What is stored. `names` is sorted, `members[i]` belongs to `names[i]`; `changed` and `head_changed` say what to write.
local time, run = server_time(), run_id()
local stored = redis.call('HMGET', key, '=t', '=h')
local head, head_changed = stored[2] and cmsgpack.unpack(stored[2]), false
local clock, members = time, {}
if head and head.run == run then
  local then_time, then_clock = cmsgpack.unpack(stored[1])
  clock = then_clock + min(max(time - then_time, 0), LEAP)
  if #head.names > 0 then
    members = redis.call('HMGET', key, unpack(head.names))
    for i = 1, #members do members[i] = cmsgpack.unpack(members[i]) end
  end
else
  head = {run = run, epoch = string.sub(run, 1, 8) .. '-' .. string.format('%.0f', time), born = time, awaited = time,
    joins = 0, names = {}, missing = {}, pool = {}, settled = {}}
  head_changed = true
  redis.call('DEL', key)
end
local names, changed = head.names, {}

local function index(n)
  for i = 1, #names do
    if names[i] == n then return i end
  end
end

local function missed(n)
  for i = 1, #head.missing do
    if head.missing[i] == n then return i end
  end
end

local function register()
  head_changed = true
  head.joins = head.joins + 1
  for n in string.gmatch(ARGV[2], '[^,]+') do
    if not index(n) and not missed(n) then table.insert(head.missing, n) end
  end
  local i = missed(name)
  if i then table.remove(head.missing, i) end
  local at = 1
  while names[at] and names[at] < name do at = at + 1 end
  table.insert(names, at, name)
  table.insert(members, at, {head.joins, -1, 0, 0, 0, 0, 0})
  return at
end

local function live(m) return m[LEFT] == 0 and clock <= m[SEEN] + ttl end

local function place(m, kind)
  for at = FIRST, #m, WIDTH do
    if m[at] == kind then return at end
  end
end

local mine = index(name)
if mine and seq <= members[mine][SEQ] then return cmsgpack.pack(false) end
mine = mine or register()

-- Taking in: this replica's numbers, what peers say of silent ones, and who is certainly over.

local function note()
  local old = members[mine]
  local me = {old[JOINED], seq, clock, old[SPARED], epoch == head.epoch and ack or 0, leaving, crowd}
  for _, kind in ipairs(KINDS) do
    local need = needs[kind]
    if need then
      local hold, n = max(need[2], need[3]), #me
      if not head.settled[kind] and not place(old, kind) then
        head.pool[kind], head_changed = (head.pool[kind] or 0) + hold, true
      end
      me[n + 1], me[n + 2], me[n + 3], me[n + 4], me[n + 5], me[n + 6] = kind, need[1], hold, need[3], need[4], need[5]
    end
  end
  members[mine] = me
end

local function spare()
  for _, n in ipairs(alive) do
    local i = index(n)
    local m = members[i]
    if not i then
      if missed(n) then head.awaited, head_changed = clock, true end
    elseif not live(m) and m[LEFT] == 0 then
      m[SPARED], changed[n] = clock + ttl, m
    end
  end
end

local function without(m, at)
  local rest = {}
  for i = 1, #m do
    if i < at or i >= at + WIDTH then rest[#rest + 1] = m[i] end
  end
  return rest
end

local function reap_one(i, m)
  local over = m[LEFT] == 1 and m[SEEN] or max(m[SEEN] + ttl, m[SPARED])
  for at = #m - WIDTH + 1, FIRST, -WIDTH do
    local hold = m[at + HOLD]
    if clock > over + (hold > 0 and tail(m[at]) or 0) or (m[LEFT] == 1 and hold == 0) then
      m = without(m, at)
      members[i], changed[names[i]] = m, m
    end
  end
  if #m < FIRST then
    redis.call('HDEL', key, names[i])
    changed[names[i]], head_changed = nil, true
    table.remove(names, i)
    table.remove(members, i)
  end
end

local function reap()
  for i = #names, 1, -1 do
    if not live(members[i]) then reap_one(i, members[i]) end
  end
  if #head.missing > 0 and clock >= max(head.born, head.awaited) + ttl + longest then
    head.missing, head_changed = {}, true
  end
end

note()
spare()
reap()
mine = index(name) -- none: it left, and held nothing
local me = mine and members[mine]

-- Granting.

local lively, count, introduced, newest, told, word, unbounded = {}, 0, true, 0, nil, 0, false
for i = 1, #names do
  local m = members[i]
  lively[i] = live(m)
  if lively[i] then
    count = count + 1
    introduced = introduced and (i == mine or not me or m[ACKED] >= me[JOINED])
    newest, told, word = max(newest, m[JOINED]), min(told or m[ACKED], m[ACKED]), max(word, m[CROWD])
    unbounded = unbounded or m[CROWD] == 0
  end
end
local complete = count >= word and not unbounded and #head.missing == 0 and told and told >= newest

local function learning(kind)
  if head.settled[kind] then return false end
  local quiet = max(head.born, head.awaited) + ttl
  if not complete and (clock < head.born + ttl or (#head.missing > 0 and clock < quiet + tail(kind))) then return true end
  head.settled[kind], head_changed = 1, true
  return false
end

local function fill(amount, wants)
  local order, parts, left = {}, {}, #wants
  for i = 1, #wants do order[i] = i end
  table.sort(order, function(a, b)
    if wants[a] ~= wants[b] then return wants[a] < wants[b] end
    return a < b
  end)
  for _, i in ipairs(order) do
    parts[i] = min(wants[i], floor(amount / left))
    amount = amount - parts[i]
    left = left - 1
  end
  return parts
end

-- The wishes of one kind, in the order of names: `wishes[i]` begins at `at[i]` in the numbers of a replica.
local wishes, at, wants = {}, {}, {}

-- `apportion` of the reference when wishes exceed the amount and some part may be too small to start anything.
local function by_turns(amount, count, turn, own)
  local rotated, wanted = {}, {}
  for i = 1, count do
    local from = (turn + i - 1) % count + 1
    rotated[i], wanted[i] = from, wants[from]
  end
  local parts = fill(amount, wanted)
  for i, from in ipairs(rotated) do
    local m, a = wishes[from], at[from]
    local used = m[a + USED]
    if m[a + WANT] > used and used <= parts[i] and parts[i] < min(amount, m[a + UNIT]) then
      local first = min(amount, used + m[a + UNIT])
      wanted[i] = 0
      parts = fill(amount - first, wanted)
      parts[i] = first
      break
    end
  end
  return parts[(own - 1 - turn) % count + 1]
end

-- The same without sorting when every part is large enough: those who want no more than the level get it, the
-- others the level, and the odd units go to the largest wishes, last in turn first.
local function by_level(amount, count, turn, own)
  local level, left, again = floor(amount / count), count, true
  while again do
    again = false
    for i = 1, count do
      local want = wants[i]
      if want >= 0 and want <= level then
        wants[i] = -1 - want -- met; its wish can still be read
        amount, left, again = amount - want, left - 1, true
      end
    end
    if again and left > 0 then level = floor(amount / left) end
  end
  local want = wants[own]
  if want < 0 then return -1 - want end
  local place_of_own, above = (own - 1 - turn) % count, 0
  for i = 1, count do
    if wants[i] > want or (wants[i] == want and (i - 1 - turn) % count > place_of_own) then above = above + 1 end
  end
  return above < amount - level * left and level + 1 or level
end

local function roomy(amount, count)
  local level = floor(amount / count)
  for i = 1, count do
    local m, a = wishes[i], at[i]
    local unit = min(amount, m[a + UNIT])
    if (level < unit or wants[i] < unit) and m[a + WANT] > m[a + USED] then return false end
  end
  return true
end

local function apportion(amount, count, own)
  if amount <= 0 then return 0 end
  local turn, reserve, all = floor(clock / TURN) % count, floor(amount / (RESERVE * count)), 0
  for i = 1, count do
    wants[i] = max(wishes[i][at[i] + WANT], reserve)
    all = all + wants[i]
  end
  if all < amount then
    local rest = amount - all
    local spare_each = floor(floor(rest / 2) / count)
    if spare_each == 0 and rest >= count then spare_each = 1 end
    return wants[own] + spare_each
  end
  return (roomy(amount, count) and by_level or by_turns)(amount, count, turn, own)
end

local function grant(kind, need)
  local limit, others, gone, content, n, own = need[1], 0, 0, true, 0, 0
  local hint = place(me, kind)
  for i = 1, #names do
    local m = members[i]
    local a = m[hint] == kind and hint or place(m, kind)
    if a then
      local hold = m[a + HOLD]
      if i ~= mine then others = others + hold end
      if lively[i] then
        n = n + 1
        wishes[n], at[n] = m, a
        if i == mine then own = n end
        if m[a + LIMIT] < limit then limit = m[a + LIMIT] end
        if m[a + WANT] > hold then content = false end
      else
        gone = gone + hold
      end
    end
  end
  if learning(kind) then limit = min(limit, head.pool[kind] or 0) end
  local free = max(0, limit - others)
  if not introduced then return min(need[2], free) end
  local target = apportion(limit - gone, n, own)
  if content and math.abs(target - need[2]) * STEADY <= limit then target = need[2] end
  return min(target, free)
end

local shares, taught, some = {}, true, false
for kind, need in pairs(needs) do
  local share = leaving == 0 and grant(kind, need) or 0
  shares[kind], some = share, true
  taught = taught and head.settled[kind] ~= nil
  local a = me and place(me, kind)
  if a then me[a + HOLD] = max(leaving == 0 and need[2] or 0, need[3], share) end
end

-- Who is there, and who is silent.

local silent = {}
for i = 1, #names do
  local m = members[i]
  if m[LEFT] == 0 and clock > m[SEEN] + floor(ttl / 2) then silent[#silent + 1] = names[i] end
end
local known = names
if #head.missing > 0 then
  known = {}
  for _, n in ipairs(names) do known[#known + 1] = n end
  for _, n in ipairs(head.missing) do
    known[#known + 1] = n
    silent[#silent + 1] = n
  end
  table.sort(known)
  table.sort(silent)
end
local roster = table.concat(known, ',')

if me then changed[name] = me end
local writes = {'=t', cmsgpack.pack(time, clock)}
if head_changed then writes[3], writes[4] = '=h', cmsgpack.pack(head) end
for n, m in pairs(changed) do
  writes[#writes + 1] = n
  writes[#writes + 1] = cmsgpack.pack(m)
end
redis.call('HSET', key, unpack(writes))
redis.call('PEXPIRE', key, KEEP)
return cmsgpack.pack({head.epoch, head.joins, max(1, count), taught and 0 or 1, some and shares,
  roster ~= ARGV[2] and roster, #silent > 0 and table.concat(silent, ',')})
