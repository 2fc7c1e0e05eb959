-- Lets the views be listed of a master that may have lost its last writes. ARGV: fold, a reign, the log's end as it was seen
-- in that reign, channel. Returns {generation, checkpoint}.
local prefix, generation, checkpoint = generation_of('', ARGV[1])
if not prefix then return refused(generation) end
if reign() ~= ARGV[2] then return refused('moved') end
if tonumber(checkpoint) < tonumber(ARGV[3]) then return refused('behind') end
redis.call('HSET', home, 'reign', ARGV[2])
redis.call('PUBLISH', ARGV[4], checkpoint)
return {tonumber(generation), tonumber(checkpoint)}
