-- Ids of threads in their order. ARGV: generation or '', fold, 'i' or 'd', lowest and highest as ZRANGE BYLEX takes them,
-- most of them. Returns {generation, checkpoint, the ids one after the other}.
if is_replica() then return refused('replica') end
local prefix, generation, checkpoint = generation_of(ARGV[1], ARGV[2])
if not prefix then return refused(generation) end
local ids = redis.call('ZRANGE', prefix .. ARGV[3], ARGV[4], ARGV[5], 'BYLEX', 'LIMIT', 0, ARGV[6])
return {tonumber(generation), tonumber(checkpoint), table.concat(ids)}
