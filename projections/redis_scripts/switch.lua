-- Makes a generation the serving one, if it is as far as the one before, and as the log was when its building began.
-- ARGV: fold, generation ('' for the one that served before), channel. Returns {generation, checkpoint}.
local number = ARGV[2]
if number == '' then
    number = redis.call('HGET', home, 'previous')
    if not number then return refused('absent') end
end
local prefix, why, checkpoint = generation_of(number, ARGV[1])
if not prefix then return refused(why) end
local serving = redis.call('HGET', home, 'serving')
if serving == number then return {tonumber(number), tonumber(checkpoint)} end
local reached = tonumber(checkpoint)
local goal = redis.call('HGET', prefix .. 'm', 'until')
if goal and reached < tonumber(goal) then return refused('behind') end
local before = serving and redis.call('HGET', home .. serving .. 'm', 'checkpoint')
if before and reached < tonumber(before) then return refused('behind') end
redis.call('HSET', home, 'serving', number)
if serving then
    redis.call('HSET', home, 'previous', serving)
else
    -- Nobody was told anything that is not in the log up to `until`.
    redis.call('HSET', home, 'reign', reign())
end
redis.call('HDEL', prefix .. 'm', 'until')
redis.call('PUBLISH', ARGV[3], checkpoint)
return {tonumber(number), reached}
