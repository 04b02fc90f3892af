-- Prelude of every script on a token's hash, `pt:{jti}` (docs/tokens.md, "The ledger").
-- KEYS[1] is the hash, ARGV[1] the limits as JSON. Times are the server's, in milliseconds.

local key = KEYS[1]
local limits = cjson.decode(ARGV[1])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function int(number)
  return string.format('%.0f', number)
end

local function read()
  local flat, fields = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do
    fields[flat[i]] = flat[i + 1]
  end
  return fields
end

local function num(hash, field)
  return tonumber(hash[field] or '0')
end

local function write(hash, changes)
  local flat = {}
  for field, value in pairs(changes) do
    if type(value) == 'number' then
      value = int(value)
    end
    hash[field] = value
    flat[#flat + 1] = field
    flat[#flat + 1] = value
  end
  redis.call('HSET', key, unpack(flat))
end

-- Return the replication id of this primary, which changes with every promotion and restart
-- (docs/adr/0016-fence-tokens-by-replication-id.md).
local function replication_id()
  return string.sub(string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)'), 1, 16)
end

-- A response is running while its lease (`r:<id>` = "until granted delivered") has not expired.
local function running(hash)
  for field, lease in pairs(hash) do
    if string.sub(field, 1, 2) == 'r:' and tonumber(string.match(lease, '^%d+')) > now then
      return true
    end
  end
  return false
end

-- Apply expiry to the token and return its state. Every script decides by this state.
local function settle(hash)
  local state = hash.st
  if state == 'minted' and now > num(hash, 'ex') + limits.leeway then
    state = 'expired'
  elseif state == 'minted' and (limits.fence or hash.rn) and hash.rn ~= replication_id() then
    state = 'expired'
    write(hash, {fe = 1})
  elseif state == 'active' and not running(hash) then
    local whole = num(hash, 'nb') > 0 and num(hash, 'nw') == num(hash, 'nb')
    if whole and now > math.max(num(hash, 'fa'), num(hash, 'le')) + limits.grace then
      state = 'done'
    elseif now > num(hash, 'dl') or now > num(hash, 'ls') + limits.idle then
      state = 'expired'
    end
  end
  if state ~= hash.st then
    write(hash, {st = state, en = now})
  end
  return state
end

-- Set the expiry of the hash: the last time at which the token or its session can be valid, plus `keep`, so
-- that later refusals have the actual cause. Never shortens an expiry.
local function prolong(hash)
  local last = math.max(num(hash, 'ex') + limits.leeway, num(hash, 'dl'), now + limits.lease)
  redis.call('PEXPIREAT', key, int(last + limits.keep))
end
