-- Stores a value that expires: KEYS[1], value, seconds.
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
