-- Start one request of a session, and reserve its first window of the byte budget.
-- ARGV: limits, sid, response id, blob key ('' if it is not a blob), length. Bytes that are not of a blob are
-- charged at once.
-- Returns {'ok', the ledger's time, bytes granted} or {reason of the refusal, time}.

local sid, lease, blob, length = ARGV[2], 'r:' .. ARGV[3], ARGV[4], tonumber(ARGV[5])
local hash = read()
if not hash.st then
  return {'unknown', now}
end
local state = settle(hash)
if state == 'revoked' then
  return {'revoked', now}
elseif state ~= 'active' or hash.sid ~= sid or now > num(hash, 'ra') + limits.cap then
  return {'session_over', now}
end
local budget = math.floor(num(hash, 'sz') * limits.budget_factor) + limits.budget_slack
if blob == '' and length > 0 then
  if num(hash, 'us') + length > budget then
    return {'over_budget', now}
  end
  write(hash, {ls = now, us = num(hash, 'us') + length})
  return {'ok', now, 0}
elseif blob == '' then
  -- A write waits for the disk. The activity of a request without bytes is therefore written only every 5 s.
  if now > num(hash, 'ls') + limits.idle / 180 then
    write(hash, {ls = now})
  end
  return {'ok', now, 0}
elseif not hash['b' .. blob] then
  return {'outside_scope', now}
elseif hash[lease] then
  return {'ok', now, tonumber(string.match(hash[lease], ' (%d+) '))}
end
local first = math.min(length, limits.window_min)
if num(hash, 'us') + first > budget or num(hash, 'dt') + length > budget then
  return {'over_budget', now}
end
write(hash, {
  ls = now,
  us = num(hash, 'us') + first,
  ['c' .. blob] = hash['c' .. blob] or '',
  [lease] = int(now + limits.lease) .. ' ' .. int(first) .. ' 0',
})
prolong(hash)
return {'ok', now, first}
