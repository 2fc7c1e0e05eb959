-- Mark and threads in one step. ARGV: generation or '', fold, ids…
-- Returns {generation, checkpoint, revision, thread or nil, …}.
if is_replica() then return refused('replica') end
local prefix, generation, checkpoint, revision = generation_of(ARGV[1], ARGV[2])
if not prefix then return refused(generation) end
local found = {tonumber(generation), tonumber(checkpoint), tonumber(revision)}
local thread = prefix .. 't'
for i = 3, #ARGV do
    found[i + 1] = redis.call('GET', thread .. ARGV[i])
end
return found
