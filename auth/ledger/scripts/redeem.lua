-- Open the token's session, or return it again to the node that opened it.
-- KEYS: token, stream of events.
-- ARGV: limits, node, proposed sid ('' to check only),
-- proof ('' if the caller has checked the node, else 'c' for a certificate of the node, or '-'),
-- hash of the secret, packed source address, event as JSON ('' for none).
-- Returns {'ok', sid, ms to the deadline, ms to the hard end, exchanges, binding, networks}, or {reason of
-- the refusal}.

local node, sid, event = ARGV[2], ARGV[3], ARGV[7]
local proof, secret, source = ARGV[4], ARGV[5], ARGV[6]

-- Return whether the source is in one of the networks: each is one byte for the prefix, then the address.
local function within(networks)
  local step = #source + 1
  for at = 1, #networks, step do
    local bits = string.byte(networks, at)
    local whole, rest = math.floor(bits / 8), bits % 8
    local same = string.sub(networks, at + 1, at + whole) == string.sub(source, 1, whole)
    if same and rest > 0 then
      local shift = 2 ^ (8 - rest)
      local theirs, ours = string.byte(networks, at + 1 + whole), string.byte(source, whole + 1)
      same = math.floor(theirs / shift) == math.floor(ours / shift)
    end
    if same then
      return true
    end
  end
  return false
end

-- Return the reason why the caller is not the token's node, or nil if it is.
-- Lua interns strings, so the comparison of secrets takes constant time.
local function unproven(hash)
  if not hash.bd then
    return proof ~= '' and 'node_unknown' or nil
  elseif hash.bd == 'c' then
    if proof ~= 'c' then
      return 'wrong_peer'
    end
  elseif #secret ~= 32 or hash.bd ~= 's' .. secret then
    return 'wrong_secret'
  end
  if hash.n4 or hash.n6 then
    local networks = #source == 4 and hash.n4 or #source == 16 and hash.n6 or ''
    return not within(networks) and 'wrong_network' or nil
  end
end

-- Append the event before the change, so that a failure leaves the token unchanged.
local function record(kind)
  if event ~= '' then
    redis.call('XADD', KEYS[2], '*', 'id', sid, 'type', kind, 'event', event)
  end
end

local hash = read()
if not hash.st then
  return {'unknown'}
end
local state = settle(hash)
if hash.nd then
  if hash.nd ~= node then
    redis.call('HINCRBY', key, 'mm', 1)
    return {'wrong_node'}
  end
  local why = unproven(hash)
  if why then
    return {why}
  end
end
local open = state == 'minted' or state == 'active' and now <= num(hash, 'ra') + limits.cap
if state == 'revoked' then
  return {'revoked'}
elseif not open then
  return {hash.ra and 'replayed' or hash.fe and 'fenced' or 'expired'}
elseif sid ~= '' and event ~= '' and redis.call('XLEN', KEYS[2]) >= limits.backlog then
  return {'backlog'}
elseif sid == '' then
  return {'ok', '', 0, 0, 0, hash.bd or '', hash.n4 or '', hash.n6 or ''}
elseif state == 'minted' then
  record('token.redeemed')
  local deadline = now + math.min(limits.base + num(hash, 'sz') * 1000 / limits.rate, limits.cap)
  write(hash, {st = 'active', sid = sid, ra = now, ls = now, dl = deadline, xc = 1})
else
  -- A retry of the opening exchange is already recorded. Of the others, only the first few are recorded.
  if hash.sid ~= sid and num(hash, 'xc') < limits.exchanges then
    record('token.exchanged')
  end
  write(hash, {ls = now, xc = num(hash, 'xc') + 1})
end
prolong(hash)
return {
  'ok', hash.sid, num(hash, 'dl') - now, num(hash, 'ra') + limits.cap - now, num(hash, 'xc'),
  hash.bd or '', hash.n4 or '', hash.n6 or '',
}
