-- One replica's report on callers' limits, and the units that it is given. `pool.py` states the rules and why they
-- hold; this gives the same, number for number. Commands: TIME, MGET, SET; cmsgpack. All up to Redis 6.2.
--
-- KEYS     one per scope, all in one hash slot: {members, logs}
-- ARGV[1]  {replica, seq, clock, ttl}    ARGV[2]  per scope {kind: {limit, hold, need, like, unit, {at, amount, …}}}
-- ARGV[3]  '' or a time in milliseconds to use instead of the server's
--
-- A member: {name, seq, expires, offset, {kind: hold}}, sorted by name. A log: {slot, amount, slot, amount, …}.

local SLOTS, CREEP, PLENTY, KEEP = 250, 1, 4, 90000
local SPANS = {streams = 0, rps = 1000, rpm = 60000, tpm = 60000, tpm_in = 60000, tpm_out = 60000}
local NAME, SEQ, EXPIRES, OFFSET, HOLDS = 1, 2, 3, 4, 5
local max, min, floor = math.max, math.min, math.floor

local replica, seq, clock, ttl = unpack(cmsgpack.unpack(ARGV[1]))
local reports = cmsgpack.unpack(ARGV[2])
local time = tonumber(ARGV[3])
if not time then
  local t = redis.call('TIME')
  time = tonumber(t[1]) * 1000 + floor(tonumber(t[2]) / 1000)
end

local function add(log, span, at, amount)
  if span == 0 or amount == 0 then return end
  local slot, place = floor(at / (span / SLOTS)) + 1, #log - 1
  while place > 0 and log[place] > slot do place = place - 2 end
  if place > 0 and log[place] == slot then
    log[place + 1] = log[place + 1] + amount
  else
    table.insert(log, place + 2, slot)
    table.insert(log, place + 3, amount)
  end
end

local function take_back(log, span, at, amount)
  if span == 0 then return end
  local slot = floor(at / (span / SLOTS)) + 1
  for place = #log - 1, 1, -2 do
    if log[place] < slot - 2 then return end
    if log[place] <= slot then
      local part = min(amount, log[place + 1])
      log[place + 1] = log[place + 1] - part
      amount = amount - part
    end
  end
end

-- The log without what is over, and what it holds in all.
local function rolled(log, span)
  local rest, used = {}, 0
  for place = 1, #log, 2 do
    if #rest > 0 or log[place] * (span / SLOTS) + span > time then
      rest[#rest + 1] = log[place]
      rest[#rest + 1] = log[place + 1]
      used = used + log[place + 1]
    end
  end
  return rest, used
end

local function opens(log, span, excess)
  for place = 1, #log, 2 do
    excess = excess - log[place + 1]
    if excess <= 0 then return log[place] * (span / SLOTS) + span - time end
  end
  return -1
end

-- This replica's entry, made anew, and everybody's; nil when the report is too late.
local function register(members, logs)
  local me, kept = {replica, seq, time + ttl, time - clock, {}}, {}
  local placed = false
  for _, member in ipairs(members) do
    if member[NAME] == replica then
      if seq <= member[SEQ] then return nil end
      me[OFFSET] = min(me[OFFSET], member[OFFSET] + CREEP)
    else
      if not placed and member[NAME] > replica then
        kept[#kept + 1], placed = me, true
      end
      if time > member[EXPIRES] then
        for kind, hold in pairs(member[HOLDS]) do
          logs[kind] = logs[kind] or {}
          add(logs[kind], SPANS[kind], member[EXPIRES], hold)
        end
      else
        kept[#kept + 1] = member
      end
    end
  end
  if not placed then kept[#kept + 1] = me end
  return me, kept
end

local function answer(me, members, logs, kind, ask)
  local limit, hold, need, like, unit, uses = unpack(ask)
  local span, log, used = SPANS[kind], logs[kind] or {}, 0
  for i = 1, #uses, 2 do
    local at, amount = uses[i] + me[OFFSET], uses[i + 1]
    if amount > 0 then add(log, span, at, amount) else take_back(log, span, at, -amount) end
  end
  log, used = rolled(log, span)
  logs[kind] = log
  for _, member in ipairs(members) do used = used + (member[HOLDS][kind] or 0) end
  used = used + hold
  local free = limit - used
  local gift = max(0, min(need - hold, free))
  if hold + gift < unit then
    gift = 0
  elseif hold + gift >= need then
    gift = max(gift, min(like - hold, floor(free / (PLENTY * #members))))
  end
  me[HOLDS][kind] = hold + gift
  local at = hold + gift < unit and opens(log, span, unit - hold - free) or -1
  return {gift, used + gift, at, (free - gift) * PLENTY >= limit and 1 or 0}
end

local stored, answers = redis.call('MGET', unpack(KEYS)), {}
for i, key in ipairs(KEYS) do
  local members, logs = {}, {}
  if stored[i] then members, logs = unpack(cmsgpack.unpack(stored[i])) end
  local me, kept = register(members, logs)
  answers[i] = false
  if me then
    answers[i] = {}
    for kind, ask in pairs(reports[i]) do answers[i][kind] = answer(me, kept, logs, kind, ask) end
    redis.call('SET', key, cmsgpack.pack({kept, logs}), 'PX', KEEP)
  end
end
return cmsgpack.pack(answers)
