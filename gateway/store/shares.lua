-- One replica's report on one account, and what it may hold from now on. `ledger.py` states the rules and why they
-- hold; this is the same, word for word. Commands: INFO (may be forbidden), TIME, GET, SET. All up to Redis 6.2.
--
-- KEYS[1]  spillgate:{account}:shares
-- ARGV[1]  the report, as JSON    ARGV[2]  '' or a time in milliseconds to use instead of the server's

local LEAP, TURN, STEADY, RESERVE = 500, 1000, 50, 100
local KEEP = 900000
local SPANS = {streams = 0, rpm = 60500, tpm = 60500, rps = 1100, tps = 1100, ramp = 2100}

local report = cjson.decode(ARGV[1])
local ttl, ghost, name = report.ttl, report.ghost, report.me

local function server_time()
  if ARGV[2] ~= '' then return tonumber(ARGV[2]) end
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

local function run_id()
  local info = redis.pcall('INFO', 'server')
  return type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
end

local time, run = server_time(), run_id()
local raw = redis.call('GET', KEYS[1])
local state = raw and cjson.decode(raw)
if not state or state.run ~= run then
  state = {run = run, epoch = string.sub(run, 1, 8) .. '-' .. string.format('%.0f', time), time = time, clock = time,
    born = time, awaited = time, joins = 0, members = {}, missing = {}, pool = {}, settled = {}}
end
local members = state.members
state.clock = state.clock + math.min(math.max(time - state.time, 0), LEAP)
state.time = time
local clock = state.clock

local function live(m) return not m.left and clock <= m.seen + ttl end
local function tail(kind) return math.max(SPANS[kind], ghost) end

local function names_of(t)
  local names = {}
  for n in pairs(t) do names[#names + 1] = n end
  table.sort(names)
  return names
end

local function register()
  local me = members[name]
  if me then return me end
  state.joins = state.joins + 1
  me = {joined = state.joins, seq = -1, seen = 0, spared = 0, acked = 0, left = false, slices = {}}
  members[name] = me
  for _, n in ipairs(report.known) do
    if not members[n] then state.missing[n] = 1 end
  end
  state.missing[name] = nil
  return me
end

local function note(me, kind, need)
  local hold = math.max(need[2], need[3])
  if not me.slices[kind] and not state.settled[kind] then state.pool[kind] = (state.pool[kind] or 0) + hold end
  me.slices[kind] = {limit = need[1], hold = hold, used = need[3], want = need[4], unit = need[5]}
end

local function spare()
  for _, n in ipairs(report.alive) do
    local m = members[n]
    if not m then
      if state.missing[n] then state.awaited = clock end
    elseif not live(m) and not m.left then
      m.spared = clock + ttl
    end
  end
end

local function reap()
  for n, m in pairs(members) do
    local over = m.left and m.seen or math.max(m.seen + ttl, m.spared)
    for kind, part in pairs(m.slices) do
      local hold = part.hold
      if clock > over + (hold > 0 and tail(kind) or 0) or (m.left and hold == 0) then m.slices[kind] = nil end
    end
    if next(m.slices) == nil and not live(m) then members[n] = nil end
  end
  local longest = 0
  for kind in pairs(SPANS) do longest = math.max(longest, tail(kind)) end
  if clock >= math.max(state.born, state.awaited) + ttl + longest then state.missing = {} end
end

local function introduced(me)
  for n, m in pairs(members) do
    if n ~= name and live(m) and m.acked < me.joined then return false end
  end
  return true
end

local function learning(kind)
  if state.settled[kind] then return false end
  local quiet = math.max(state.born, state.awaited) + ttl
  if clock < state.born + ttl or (next(state.missing) ~= nil and clock < quiet + tail(kind)) then return true end
  state.settled[kind] = true
  return false
end

local function fill(amount, wants)
  local order, parts, left, all = {}, {}, #wants, 0
  for i = 1, #wants do all = all + wants[i] end
  if all <= amount then return wants, amount - all end -- the common case needs no sorting
  for i = 1, #wants do order[i] = i end
  table.sort(order, function(a, b)
    if wants[a] ~= wants[b] then return wants[a] < wants[b] end
    return a < b
  end)
  for _, i in ipairs(order) do
    parts[i] = math.min(wants[i], math.floor(amount / left))
    amount = amount - parts[i]
    left = left - 1
  end
  return parts, amount
end

local function apportion(amount, wishes, turn)
  local count = #wishes
  if amount <= 0 then return 0 end
  local ordered, wants, mine = {}, {}, 0
  local reserve = math.floor(amount / (RESERVE * count))
  for i = 1, count do
    local w = wishes[(turn + i - 1) % count + 1]
    ordered[i], wants[i] = w, math.max(w.want, reserve)
    if w.name == name then mine = i end
  end
  local parts, rest = fill(amount, wants)
  if rest > 0 then
    local spare_each = math.floor(math.floor(rest / 2) / count)
    if spare_each == 0 and rest >= count then spare_each = 1 end
    return parts[mine] + spare_each
  end
  for i, w in ipairs(ordered) do
    if w.want > w.used and w.used <= parts[i] and parts[i] < math.min(amount, w.unit) then
      local first = math.min(amount, w.used + w.unit)
      wants[i] = 0
      parts = fill(amount - first, wants)
      parts[i] = first
      break
    end
  end
  return parts[mine]
end

local function grant(me, kind, need, names)
  local limit, others, gone, content, wishes = need[1], 0, 0, true, {}
  for _, n in ipairs(names) do
    local m = members[n]
    local part = m.slices[kind]
    if part then
      if n ~= name then others = others + part.hold end
      if live(m) then
        limit = math.min(limit, part.limit)
        content = content and part.want <= part.hold
        wishes[#wishes + 1] = {name = n, used = part.used, want = part.want, unit = part.unit}
      elseif n ~= name then
        gone = gone + part.hold
      end
    end
  end
  if learning(kind) then limit = math.min(limit, state.pool[kind] or 0) end
  local free = math.max(0, limit - others)
  if not introduced(me) then return math.min(need[2], free) end
  local target = apportion(limit - gone, wishes, math.floor(clock / TURN))
  if content and math.abs(target - need[2]) * STEADY <= limit then target = need[2] end
  return math.min(target, free)
end

local me = register()
if report.seq <= me.seq then return '{"stale":true}' end
me.seq, me.seen, me.left = report.seq, clock, report.leaving
me.acked = report.epoch == state.epoch and report.ack or 0
for kind, need in pairs(report.needs) do note(me, kind, need) end
for _, kind in ipairs(names_of(me.slices)) do
  if not report.needs[kind] then me.slices[kind] = nil end
end
spare()
reap()
local shares, names = {}, names_of(members)
for kind, need in pairs(report.needs) do
  local share, held = 0, 0
  if not report.leaving then share, held = grant(me, kind, need, names), need[2] end
  shares[kind] = share
  if me.slices[kind] then me.slices[kind].hold = math.max(held, need[3], share) end
end

local count, everybody, silent, taught = 0, {}, {}, true
for n in pairs(state.missing) do everybody[n] = 1 end
for n in pairs(members) do everybody[n] = 1 end
local known = names_of(everybody)
for _, n in ipairs(known) do
  local m = members[n]
  if m and live(m) then count = count + 1 end
  if state.missing[n] or (not m.left and clock > m.seen + math.floor(ttl / 2)) then silent[#silent + 1] = n end
end
for kind in pairs(report.needs) do taught = taught and state.settled[kind] ~= nil end
redis.call('SET', KEYS[1], cjson.encode(state), 'PX', KEEP)
return cjson.encode({shares = shares, epoch = state.epoch, joins = state.joins, replicas = math.max(1, count),
  members = #known > 0 and known or nil, silent = #silent > 0 and silent or nil, learning = not taught})
