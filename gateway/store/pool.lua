-- One replica's report on callers' limits, and the units that it is given. `pool.py` states the rules and why they
-- hold; this gives the same, number for number. Commands: TIME, MGET, SET; cmsgpack, struct. All up to Redis 6.2.
--
-- KEYS     one per scope, all in one hash slot: {members, logs}
-- ARGV[1]  {replica, seq, clock, ttl}    ARGV[2]  per scope {kind: {limit, hold, need, like, unit, {at, amount, …}}}
-- ARGV[3]  '' or a time in milliseconds to use instead of the server's
--
-- A member: {name, seq, expires, offset, {kind: hold}}, sorted by name. A log: {used, text}, see there.

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

-- A log is a string of entries (slot, amount), oldest first, and their sum: only what changes is taken apart.
local ENTRY, SIZE = '>I6I6', 12

local function entry(text, i) return struct.unpack(ENTRY, text, SIZE * (i - 1) + 1) end

local function add(slots, amounts, slot, amount)
  local place = #slots
  while place > 0 and slots[place] > slot do place = place - 1 end
  if place > 0 and slots[place] == slot then
    amounts[place] = amounts[place] + amount
  else
    table.insert(slots, place + 1, slot)
    table.insert(amounts, place + 1, amount)
  end
end

local function take_back(slots, amounts, slot, amount)
  local taken = 0
  for place = #slots, 1, -1 do
    if slots[place] < slot - 2 then break end
    if slots[place] <= slot then
      local part = min(amount - taken, amounts[place])
      amounts[place], taken = amounts[place] - part, taken + part
    end
  end
  return taken
end

-- Enters uses, {at, amount, …} by the store's time plus `offset`: the end of the log is taken apart as far back as needed.
local function enter(log, span, uses, offset)
  if span == 0 or #uses == 0 then return end
  local width, earliest = span / SLOTS, nil
  for i = 1, #uses, 2 do
    local slot = floor((uses[i] + offset) / width) + 1
    if not earliest or slot < earliest then earliest = slot end
  end
  local text, slots, amounts = log.text, {}, {}
  local count = #text / SIZE
  local first = count
  while first > 0 and entry(text, first) >= earliest - 2 do first = first - 1 end
  for i = first + 1, count do slots[#slots + 1], amounts[#amounts + 1] = entry(text, i) end
  for i = 1, #uses, 2 do
    local slot, amount = floor((uses[i] + offset) / width) + 1, uses[i + 1]
    if amount > 0 then
      add(slots, amounts, slot, amount)
      log.used = log.used + amount
    elseif amount < 0 then
      log.used = log.used - take_back(slots, amounts, slot, -amount)
    end
  end
  local parts = {string.sub(text, 1, SIZE * first)}
  for i = 1, #slots do parts[i + 1] = struct.pack(ENTRY, slots[i], amounts[i]) end
  log.text = table.concat(parts)
end

local function roll(log, span)
  local gone, count = 0, #log.text / SIZE
  while gone < count do
    local slot, amount = entry(log.text, gone + 1)
    if slot * (span / SLOTS) + span > time then break end
    log.used, gone = log.used - amount, gone + 1
  end
  if gone > 0 then log.text = string.sub(log.text, SIZE * gone + 1) end
end

local function opens(log, span, excess)
  for i = 1, #log.text / SIZE do
    local slot, amount = entry(log.text, i)
    excess = excess - amount
    if excess <= 0 then return slot * (span / SLOTS) + span - time end
  end
  return -1
end

local function log_of(logs, kind)
  logs[kind] = logs[kind] or {used = 0, text = ''}
  return logs[kind]
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
          enter(log_of(logs, kind), SPANS[kind], {member[EXPIRES], hold}, 0)
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
  local span, log = SPANS[kind], log_of(logs, kind)
  enter(log, span, uses, me[OFFSET])
  roll(log, span)
  local used = log.used
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
