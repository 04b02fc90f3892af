-- Return the server's time and the whole hash, flat, after applying expiry.

local hash = read()
if not hash.st then
  return {}
end
settle(hash)
local flat = {int(now)}
for field, value in pairs(hash) do
  flat[#flat + 1] = field
  flat[#flat + 1] = value
end
return flat
