-- Let one request of a session start, and reserve its first window of the byte budget.
-- ARGV: limits, sid, response id, blob key ('' for anything but a blob), length.
-- Answers {'ok', bytes granted} or {why not}.

local sid, lease, blob, length = ARGV[2], 'r:' .. ARGV[3], ARGV[4], tonumber(ARGV[5])
local hash = read()
if not hash.st then
  return {'unknown'}
end
local state = settle(hash)
if state == 'revoked' then
  return {'revoked'}
elseif state ~= 'active' or hash.sid ~= sid or now > num(hash, 'ra') + limits.cap then
  return {'session_over'}
end
if blob == '' then
  -- A write is a wait for the disk: a request for no bytes may count as made 5 s (of 15 min) earlier.
  if now > num(hash, 'ls') + limits.idle / 180 then
    write(hash, {ls = now})
  end
  return {'ok', 0}
elseif not hash['b' .. blob] then
  return {'outside_scope'}
elseif hash[lease] then
  return {'ok', tonumber(string.match(hash[lease], ' (%d+) '))}
end
local first = math.min(length, limits.window_min)
local budget = math.floor(num(hash, 'sz') * limits.budget_factor) + limits.budget_slack
if num(hash, 'us') + first > budget or num(hash, 'dt') + length > budget then
  return {'over_budget'}
end
write(hash, {
  ls = now,
  us = num(hash, 'us') + first,
  [lease] = int(now + limits.lease) .. ' ' .. int(first) .. ' 0',
})
prolong(hash)
return {'ok', first}
