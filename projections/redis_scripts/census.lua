-- Counts and frozen threads of the serving generation. ARGV: fold.
-- Returns {generation, checkpoint, active, archived, deleted, items, frozen id, why, …}.
if is_replica() then return refused('replica') end
local prefix, generation, checkpoint = generation_of('', ARGV[1])
if not prefix then return refused(generation) end
local found = {tonumber(generation), tonumber(checkpoint)}
for i, count in ipairs(redis.call('HMGET', prefix .. 'm', 'active', 'archived', 'deleted', 'items')) do
    found[2 + i] = tonumber(count or 0)
end
for _, value in ipairs(redis.call('HGETALL', prefix .. 'f')) do
    found[#found + 1] = value
end
return found
