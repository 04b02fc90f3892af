-- Record the progress of a running response. Renews its lease and window, or ends it.
-- ARGV: limits, response id, blob key, start, bytes sent so far, length, '1' if it has ended, sent bytes that
-- the client has not received.
-- All numbers count from the response's start, so a repeated report changes nothing.
-- Returns {'ok', the ledger's time, total bytes granted} or {reason why the response must stop, time}.

local lease, blob, start = 'r:' .. ARGV[2], ARGV[3], tonumber(ARGV[4])
local sent, length, ended = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1'
local delivered = sent - tonumber(ARGV[8])

-- Merge [from, to) into the disjoint, sorted spans of `text`. Beyond `limits.spans`, the smallest span is
-- dropped, which can only delay a blob's completion.
local function merge(text, from, to)
  local spans = {}
  for a, b in string.gmatch(text, '(%d+)-(%d+)') do
    a, b = tonumber(a), tonumber(b)
    if b < from or a > to then
      spans[#spans + 1] = {a, b}
    else
      from, to = math.min(from, a), math.max(to, b)
    end
  end
  spans[#spans + 1] = {from, to}
  if #spans > limits.spans then
    table.sort(spans, function(x, y) return x[2] - x[1] > y[2] - y[1] end)
    spans[#spans] = nil
  end
  table.sort(spans, function(x, y) return x[1] < y[1] end)
  for i, span in ipairs(spans) do
    spans[i] = int(span[1]) .. '-' .. int(span[2])
  end
  return table.concat(spans, ',')
end

-- Record the delivered bytes of the blob, and whether it is now complete. The image is complete with all its
-- blobs, or with all blobs of one of its platforms.
local function cover(hash, changes)
  local size, platforms = string.match(hash['b' .. blob], '^(%d+) ?(%d*)$')
  local covered = hash['c' .. blob] or ''
  if delivered == 0 or covered == 'w' then
    return
  end
  covered = merge(covered, start, start + delivered)
  if covered == '0-' .. size then
    covered = 'w'
    changes.nw = platforms == '' and num(hash, 'nw') + 1 or nil
    changes.fa = now
    for platform in string.gmatch(platforms, '%d') do
      local left = num(hash, 'g' .. platform) - 1
      changes['g' .. platform] = left
      if left == 0 then
        changes.nw = num(hash, 'nb')
      end
    end
  end
  changes['c' .. blob] = covered
end

-- Return the next window: as many bytes as were sent, within the limits and the budget.
local function grant(hash, granted, used)
  local window = math.max(limits.window_min, math.min(sent, limits.window_max))
  local wanted = math.max(granted, math.min(length, sent + window))
  local budget = math.floor(num(hash, 'sz') * limits.budget_factor) + limits.budget_slack
  return math.max(granted, math.min(wanted, granted + budget - used))
end

local hash = read()
if not hash.st then
  return {'unknown', now}
elseif not hash[lease] then
  return {'ok', now, sent}
end
local _, was_granted, was_delivered = string.match(hash[lease], '(%d+) (%d+) (%d+)')
was_granted, was_delivered = tonumber(was_granted), tonumber(was_delivered)

local changes = {dt = num(hash, 'dt') + delivered - was_delivered}
cover(hash, changes)
if delivered > was_delivered then
  changes.ls = now
  changes.dl = math.max(num(hash, 'dl'), math.min(now + limits.base, num(hash, 'ra') + limits.cap))
end

local granted = math.max(was_granted, sent)
local used = num(hash, 'us') + granted - was_granted
if ended then
  changes.us = used - (granted - delivered)
  changes.ls, changes.le = now, now
  redis.call('HDEL', key, lease)
  hash[lease] = nil
else
  local more = grant(hash, granted, used)
  changes.us = used + more - granted
  changes[lease] = int(now + limits.lease) .. ' ' .. int(more) .. ' ' .. int(delivered)
  granted = more
end
write(hash, changes)
prolong(hash)

if hash.st == 'revoked' then
  return {'revoked', now}
elseif not ended and granted <= sent and sent < length then
  return {'over_budget', now}
end
return {'ok', now, granted}
