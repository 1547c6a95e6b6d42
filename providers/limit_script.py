"""The Lua script by which processes agree on the limits of an endpoint; one call is one exchange.

KEYS: the state of the endpoint, its members (one per process), the tokens of the window. ARGV: the exchange as JSON
(`providers.shared_limits` writes it). Returns JSON. Moments are those of Redis' clock, in seconds; what goes out is
relative to now, so that no two clocks are compared.

A member is "expires held want served": the permits it may have out, what it would use, and when it last got more. The
permits are divided max-min fair: who wants less than an equal part gets it, the others share the rest, and what
cannot be divided goes to whoever has gone without for longest.
"""

from __future__ import annotations

__all__ = ["EXCHANGE"]

EXCHANGE = """
local ask = cjson.decode(ARGV[1])
local state, members, window = KEYS[1], KEYS[2], KEYS[3]
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local function exact(number) return string.format('%.17g', number) end

local s = redis.call('HMGET', state, 'limit', 'slow', 'epoch', 'gate', 'requests', 'tokens', 'asked', 'slice')
local limit = math.min(tonumber(s[1]) or ask.start, ask.ceiling)
local slow = s[2] ~= '0'
local epoch = tonumber(s[3]) or 0
local gate = tonumber(s[4]) or 0
local requests_full, tokens_full = tonumber(s[5]) or 0, tonumber(s[6]) or 0
local asked = s[7] == '1'
local oldest = tonumber(s[8]) or 0

local line, others, mine, short = {}, 0, 0, false
local served = 0
local all = redis.call('HGETALL', members)
for i = 1, #all, 2 do
  local expires, held, want, last = string.match(all[i + 1], '^(%S+) (%S+) (%S+) (%S+)$')
  held, want = tonumber(held), tonumber(want)
  if all[i] == ask.me then
    mine, served = held, tonumber(last)
  elseif tonumber(expires) < now then
    redis.call('HDEL', members, all[i])
  else
    others = others + held
    short = short or want > held
    line[#line + 1] = {want = want, served = tonumber(last), name = all[i]}
  end
end

if ask.grown > 0 and ask.epoch == epoch and limit < ask.ceiling and others + mine >= math.floor(limit) then
  limit = math.min(ask.ceiling, limit + (slow and ask.grown or ask.grown / limit))
end
if ask.refused == epoch then
  limit, slow, epoch = math.max(1, limit * ask.cut), false, epoch + 1
end
if ask.pause > 0 then gate = math.max(gate, now + ask.pause) end

local slice = 0
if ask.tokens then
  slice = math.floor(now / ask.slice_s)
  if slice - oldest > 3 * ask.slices then
    redis.call('DEL', window)
    oldest = slice - ask.slices
  end
  for old = oldest, slice - ask.slices - 1 do redis.call('HDEL', window, 'u' .. old, 'a' .. old) end
  oldest = math.max(oldest, slice - ask.slices)
  for _, change in ipairs(ask.corrections) do
    tokens_full = tokens_full + change[2] / ask.tokens.rate
    if change[1] >= oldest then
      redis.call('HINCRBYFLOAT', window, 'u' .. change[1], change[2])
      redis.call('HINCRBYFLOAT', window, 'a' .. change[1], change[3])
    end
  end
  if ask.refused >= 0 then
    local used, worst = ask.open * (1 + #line), 0
    for i = oldest, slice do
      local sums = redis.call('HMGET', window, 'u' .. i, 'a' .. i)
      used, worst = used + (tonumber(sums[1]) or 0), worst + (tonumber(sums[2]) or 0)
    end
    local allowed = ask.tokens.allowed
    if asked then asked = worst >= 0.8 * allowed
    else asked = used < 0.9 * allowed and worst >= 0.9 * allowed and worst <= 1.25 * allowed end
  end
end

local tickets, used, worst = {}, 0, 0
for i = 1, ask.tickets do
  local at = math.max(now, gate)
  local cost = asked and ask.worst or ask.usual
  if ask.requests then
    at = math.max(at, requests_full - (ask.requests.burst - 1) / ask.requests.rate)
  end
  if ask.tokens and cost > 0 then
    at = math.max(at, tokens_full - math.max(0, ask.tokens.burst - cost) / ask.tokens.rate)
    tokens_full = math.max(tokens_full, at) + cost / ask.tokens.rate
    used, worst = used + cost, worst + ask.worst
  end
  if ask.requests then requests_full = math.max(requests_full, at) + 1 / ask.requests.rate end
  tickets[i] = at - now
end
if used > 0 then
  redis.call('HINCRBYFLOAT', window, 'u' .. slice, used)
  redis.call('HINCRBYFLOAT', window, 'a' .. slice, worst)
end

local total = math.floor(limit)
line[#line + 1] = {want = ask.want, served = served, name = ask.me}
table.sort(line, function(a, b)
  if a.want ~= b.want then return a.want < b.want end
  if a.served ~= b.served then return a.served > b.served end
  return a.name < b.name
end)
local left, part = total, 0
for i, member in ipairs(line) do
  local given = math.min(member.want, math.floor(left / (#line - i + 1)))
  left = left - given
  if member.name == ask.me then part = given end
end
local quota = math.max(0, math.min(part, total - others))
local held = math.max(ask.in_flight, quota)
if held > mine then served = now end
if held == 0 and ask.want == 0 then
  redis.call('HDEL', members, ask.me)
else
  redis.call('HSET', members, ask.me, table.concat({exact(now + ask.ttl), held, ask.want, exact(served)}, ' '))
end

redis.call('HSET', state, 'limit', exact(limit), 'slow', slow and '1' or '0', 'epoch', epoch, 'gate', exact(gate),
  'requests', exact(requests_full), 'tokens', exact(tokens_full), 'asked', asked and '1' or '0', 'slice', oldest)
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, 3600) end
return cjson.encode({limit = total, epoch = epoch, gate = math.max(0, gate - now), quota = quota, held = held,
  short = short, asked = asked, slice = slice, tickets = tickets})
"""
