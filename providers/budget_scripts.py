"""The Lua scripts of the shared budget. Each is one atomic step, and doing a step twice is doing it once.

Keys, all after the prefix `P`:

    account:NAME   hash: gen, quiet, settled (sd st sc), reserved (rd rt rc), doubtful (xd xt xc), out, lost
    members        sorted set: process -> moment (ms) at which its lease ends
    held:PROCESS   hash: reservation -> record, of a process that lives
    lost:PROCESS   hash: reservation -> record, of a process whose lease ended
    doubt          sorted set: process that left records in `lost` -> moment of its end
    line:NAME      sorted set: process/lane that waits for an account -> its ticket
    ticket         counter

A record is state, dollars, tokens, calls, then name and generation of each account, one a line. Its state is h (held),
x (doubtful: its process died, or was silent too long), r (the call store was asked in its place) or l (settled after
that, and doubtful until the store is asked once more, since nobody knows whether it was counted). Dollars are whole
nanodollars. A generation names one life of an account's hash: where Redis lost it, a record of the old one does not
count in the new.
"""

from __future__ import annotations

from providers.redis_link import Script

__all__ = ["ADOPT", "BEAT", "CLEAR", "CLOSE", "DOUBTFUL", "LEAVE", "OPEN", "READ", "RESERVE"]

_HEAD = r"""
local P, me, lease = KEYS[1], ARGV[1], tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function account(name) return P .. 'account:' .. name end

local function generation(name) return redis.call('HGET', account(name), 'gen') end

local function add(name, kind, sign, d, t, c)
  for field, amount in pairs({d = tonumber(d), t = tonumber(t), c = tonumber(c)}) do
    -- Minus nothing would be written -0, which is no whole number to Redis.
    if amount ~= 0 then redis.call('HINCRBY', account(name), kind .. field, sign * amount) end
  end
end

local function parts(record)
  local found = {}
  for part in string.gmatch(record, '[^\n]+') do found[#found + 1] = part end
  return found
end

local function write(hash, id, record) redis.call('HSET', P .. hash, id, table.concat(record, '\n')) end

local function alive() redis.call('ZADD', P .. 'members', now + lease, me) end

local function bury(dead)
  local held = redis.call('HGETALL', P .. 'held:' .. dead)
  for i = 1, #held, 2 do
    local record = parts(held[i + 1])
    for j = 5, #record, 2 do
      if generation(record[j]) == record[j + 1] then
        add(record[j], 'r', -1, record[2], record[3], record[4])
        add(record[j], 'x', 1, record[2], record[3], record[4])
        redis.call('HINCRBY', account(record[j]), 'out', -1)
        redis.call('HINCRBY', account(record[j]), 'lost', 1)
      end
    end
    record[1] = 'x'
    write('lost:' .. dead, held[i], record)
  end
  redis.call('DEL', P .. 'held:' .. dead)
  redis.call('ZREM', P .. 'members', dead)
  if #held > 0 then redis.call('ZADD', P .. 'doubt', now, dead) end
end

local function sweep()
  for _, dead in ipairs(redis.call('ZRANGEBYSCORE', P .. 'members', '-inf', now, 'LIMIT', 0, 4)) do bury(dead) end
end
"""

RESERVE = Script(
    _HEAD
    + r"""
-- ARGV: process, lease, reservation, lane, ticket (0: give me one, -1: I do not stand in line), d, t, c,
-- then for each account: name, generation, caps d, t, c
local id, lane, ticket = ARGV[3], ARGV[4], tonumber(ARGV[5])
sweep()
alive()
if redis.call('HEXISTS', P .. 'held:' .. me, id) == 1 then return {'ok'} end
local wait, short, record = false, {}, {'h', ARGV[6], ARGV[7], ARGV[8]}
for i = 9, #ARGV, 5 do
  local name = ARGV[i]
  local v = redis.call('HMGET', account(name), 'gen', 'quiet', 'sd', 'rd', 'xd', 'st', 'rt', 'xt', 'sc', 'rc', 'xc',
                       'out', 'lost')
  if v[1] ~= ARGV[i + 1] then return {'unknown', name} end
  record[#record + 1] = name
  record[#record + 1] = v[1]
  local tight = false
  for m = 0, 2 do
    local cap = tonumber(ARGV[i + 2 + m])
    if cap and v[3 + 3 * m] + v[4 + 3 * m] + v[5 + 3 * m] + ARGV[6 + m] > cap then tight = true end
  end
  local quiet = tonumber(v[2]) > now
  if tight then
    short[#short + 1] = name
    if tonumber(v[12]) <= 0 and tonumber(v[13]) <= 0 and not quiet then
      for j = 9, #ARGV, 5 do redis.call('ZREM', P .. 'line:' .. ARGV[j], lane) end
      return {'over', name, v[3], v[6], v[9]}
    end
  end
  local line = P .. 'line:' .. name
  local first = redis.call('ZRANGE', line, 0, 0, 'WITHSCORES')
  while first[1] and not redis.call('ZSCORE', P .. 'members', string.match(first[1], '^[^/]+')) do
    redis.call('ZREM', line, first[1])
    first = redis.call('ZRANGE', line, 0, 0, 'WITHSCORES')
  end
  local behind = first[1] and first[1] ~= lane and (ticket <= 0 or tonumber(first[2]) < ticket)
  wait = wait or tight or quiet or behind
end
if wait then
  if ticket == 0 then ticket = redis.call('INCR', P .. 'ticket') end
  if ticket > 0 then
    for _, name in ipairs(short) do redis.call('ZADD', P .. 'line:' .. name, 'NX', ticket, lane) end
  end
  return {'wait', ticket}
end
for j = 5, #record, 2 do
  add(record[j], 'r', 1, record[2], record[3], record[4])
  redis.call('HINCRBY', account(record[j]), 'out', 1)
  redis.call('ZREM', P .. 'line:' .. record[j], lane)
end
write('held:' .. me, id, record)
return {'ok'}
"""
)
"""Hold an amount against all accounts or none: `ok`, `wait` with a ticket, `over` with the figures, or `unknown`."""

CLOSE = Script(
    _HEAD
    + r"""
-- ARGV: process, lease, then for each reservation: id, actual d, t, c
alive()
for i = 3, #ARGV, 4 do
  local held, hash, kind, count = redis.call('HGET', P .. 'held:' .. me, ARGV[i]), 'held:', 'r', 'out'
  if not held then
    held, hash, kind, count = redis.call('HGET', P .. 'lost:' .. me, ARGV[i]), 'lost:', 'x', 'lost'
  end
  local state = held and string.sub(held, 1, 1)
  if state == 'r' and ARGV[i + 1] + ARGV[i + 2] + ARGV[i + 3] > 0 then
    local record = parts(held)
    record[1], record[2], record[3], record[4] = 'l', ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    for j = 5, #record, 2 do
      if generation(record[j]) == record[j + 1] then
        add(record[j], 'x', 1, record[2], record[3], record[4])
        redis.call('HINCRBY', account(record[j]), 'lost', 1)
      end
    end
    write('lost:' .. me, ARGV[i], record)
    redis.call('ZADD', P .. 'doubt', now, me)
  elseif held and state ~= 'l' then
    local record = parts(held)
    for j = 5, #record, 2 do
      local now_is = generation(record[j])
      if now_is == record[j + 1] and state ~= 'r' then
        add(record[j], kind, -1, record[2], record[3], record[4])
        redis.call('HINCRBY', account(record[j]), count, -1)
      end
      if now_is and state ~= 'r' then add(record[j], 's', 1, ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]) end
    end
    redis.call('HDEL', P .. hash .. me, ARGV[i])
  end
end
sweep()
return 1
"""
)
"""Settle reservations to what was used; a release is a settlement to nothing. One that is gone was closed before."""

OPEN = Script(
    _HEAD
    + r"""
-- ARGV: process, lease, name, new generation, spent d, t, c, quiet ms
local name = ARGV[3]
if not generation(name) then
  redis.call('HSET', account(name), 'gen', ARGV[4], 'quiet', 0, 'sd', ARGV[5], 'st', ARGV[6], 'sc', ARGV[7],
             'rd', 0, 'rt', 0, 'rc', 0, 'xd', 0, 'xt', 0, 'xc', 0, 'out', 0, 'lost', 0)
end
if ARGV[8] ~= '0' then
  local quiet = math.max(tonumber(redis.call('HGET', account(name), 'quiet')), now + ARGV[8])
  redis.call('HSET', account(name), 'quiet', quiet)
end
redis.call('EXPIRE', account(name), 2592000)
alive()
return generation(name)
"""
)
"""Make an account where there is none and return its generation; `quiet` keeps it shut for a while."""

ADOPT = Script(
    _HEAD
    + r"""
-- ARGV: process, lease, reservation, d, t, c, names of accounts
alive()
if redis.call('HEXISTS', P .. 'lost:' .. me, ARGV[3]) == 1 then return 0 end
local old = {}
local held = redis.call('HGET', P .. 'held:' .. me, ARGV[3])
if held then
  local record = parts(held)
  for j = 5, #record, 2 do old[record[j]] = record[j + 1] end
end
local record = {'h', ARGV[4], ARGV[5], ARGV[6]}
for i = 7, #ARGV do
  local name, now_is = ARGV[i], generation(ARGV[i])
  if now_is then
    record[#record + 1] = name
    record[#record + 1] = now_is
    if old[name] ~= now_is then
      add(name, 'r', 1, ARGV[4], ARGV[5], ARGV[6])
      redis.call('HINCRBY', account(name), 'out', 1)
    end
  end
end
write('held:' .. me, ARGV[3], record)
return 1
"""
)
"""Hold a reservation that Redis lost, whatever the cap says: its call is under way."""

BEAT = Script(
    _HEAD
    + r"""
-- ARGV: process, lease, then for each account: name, generation
sweep()
alive()
local changed = {}
for i = 3, #ARGV, 2 do
  if generation(ARGV[i]) ~= ARGV[i + 1] then changed[#changed + 1] = ARGV[i] end
  redis.call('EXPIRE', account(ARGV[i]), 2592000)
end
return changed
"""
)
"""Keep the process' lease and return the accounts that Redis has lost or made anew."""

DOUBTFUL = Script(
    _HEAD
    + r"""
-- ARGV: process, lease, grace ms
local found = {}
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', P .. 'doubt', '-inf', now - ARGV[3], 'LIMIT', 0, 4)) do
  local names, seen = {dead}, {}
  for _, held in ipairs(redis.call('HVALS', P .. 'lost:' .. dead)) do
    local record = parts(held)
    for j = 5, #record, 2 do
      if not seen[record[j]] then
        seen[record[j]] = true
        names[#names + 1] = record[j]
      end
    end
  end
  found[#found + 1] = names
end
return found
"""
)
"""Return the processes that died with reservations longer than `grace` ago, each with the accounts concerned."""

CLEAR = Script(
    _HEAD
    + r"""
-- ARGV: process, lease, dead process, then for each account: name, 1 where its spending is known, d, t, c
local dead, known = ARGV[3], {}
local lost = redis.call('HGETALL', P .. 'lost:' .. dead)
for i = 4, #ARGV, 5 do known[ARGV[i]] = ARGV[i + 1] end
for i = 1, #lost, 2 do
  local record = parts(lost[i + 1])
  if record[1] ~= 'r' then
    local kept = {'r', record[2], record[3], record[4]}
    for j = 5, #record, 2 do
      if generation(record[j]) == record[j + 1] then
        add(record[j], 'x', -1, record[2], record[3], record[4])
        redis.call('HINCRBY', account(record[j]), 'lost', -1)
        if known[record[j]] == '1' then
          kept[#kept + 1] = record[j]
          kept[#kept + 1] = record[j + 1]
        else
          add(record[j], 's', 1, record[2], record[3], record[4])
        end
      end
    end
    if record[1] == 'l' or #kept == 4 then
      redis.call('HDEL', P .. 'lost:' .. dead, lost[i])
    else
      write('lost:' .. dead, lost[i], kept)
    end
  end
end
for i = 4, #ARGV, 5 do
  if ARGV[i + 1] == '1' and generation(ARGV[i]) then
    for m, field in ipairs({'sd', 'st', 'sc'}) do
      local settled = math.max(tonumber(redis.call('HGET', account(ARGV[i]), field)), tonumber(ARGV[i + 1 + m]))
      redis.call('HSET', account(ARGV[i]), field, settled)
    end
  end
end
redis.call('EXPIRE', P .. 'lost:' .. dead, 86400)
redis.call('ZREM', P .. 'doubt', dead)
return 1
"""
)
"""Put what the call store shows in the place of a dead process' worst cases; unknown spending stays charged whole."""

LEAVE = Script(
    _HEAD
    + r"""
-- ARGV: process, lease, lane or nothing, names of accounts
for i = 4, #ARGV do redis.call('ZREM', P .. 'line:' .. ARGV[i], ARGV[3]) end
if ARGV[3] == '' and redis.call('HLEN', P .. 'held:' .. me) == 0 then redis.call('ZREM', P .. 'members', me) end
return 1
"""
)
"""Leave the lines of some accounts; with no lane, leave for good, unless something is still held."""

READ = Script(
    _HEAD
    + r"""
-- ARGV: process, lease, name
sweep()
return redis.call('HMGET', account(ARGV[3]), 'sd', 'st', 'sc', 'rd', 'rt', 'rc', 'xd', 'xt', 'xc', 'out', 'lost')
"""
)
"""Return settled, reserved and doubtful amounts of an account, and how many reservations are out and lost."""
