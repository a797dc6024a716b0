-- One replica's telling of one pool's counters, and where they stand then. `fairness.py` states the rules;
-- `MemoryCounters` does the same, number for number. Commands: HMGET, HSET, DEL, PEXPIRE; cmsgpack.
--
-- KEYS[1]  a hash. '=h': {epoch, clock of each of three bands, how many fields}. '=' and a replica's name: its last
--          number. A band's rank and a tenant's name: his counter.
-- ARGV[1]  msgpack: {replica, epoch, seq, MANY, clocks, words}; a word is {field, base, spent, lifted}
-- Answers  msgpack: {epoch, clocks, counters}, false for a counter that is not known

local KEEP = 900000
local key = KEYS[1]
local replica, epoch, seq, many, clocks, words = unpack(cmsgpack.unpack(ARGV[1]))

local fields = {'=h', '=' .. replica}
for i = 1, #words do fields[i + 2] = words[i][1] end
local found = redis.call('HMGET', key, unpack(fields))
local head = found[1] and cmsgpack.unpack(found[1]) or {epoch, clocks[1], clocks[2], clocks[3], 0}

local counters = {}
for i = 1, #words do counters[i] = found[i + 2] and tonumber(found[i + 2]) end
if head[1] ~= epoch then
  return cmsgpack.pack({head[1], {head[2], head[3], head[4]}, counters})
end

local again, count = found[2] and tonumber(found[2]) >= seq, head[5]
if count > many then
  redis.call('DEL', key)
  count = 0
  for i = 1, #fields do found[i] = false end
end
for i = 1, 3 do head[i + 1] = math.max(head[i + 1], clocks[i]) end

local new = {'=' .. replica, string.format('%.0f', seq)}
if not found[2] then count = count + 1 end
for i = 1, #words do
  local field, base, spent, lifted = unpack(words[i])
  local counter = counters[i]
  if not counter then
    counter = base
  elseif lifted and not again then
    counter = math.max(counter, base)
  end
  if not again then counter = counter + spent end
  if not found[i + 2] then count = count + 1 end
  counters[i] = counter
  new[#new + 1] = field
  new[#new + 1] = string.format('%.17g', counter)
end
head[5] = count
redis.call('HSET', key, '=h', cmsgpack.pack(head), unpack(new))
redis.call('PEXPIRE', key, KEEP)
return cmsgpack.pack({head[1], {head[2], head[3], head[4]}, counters})
