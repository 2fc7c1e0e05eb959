-- The reign of this master, and whether the views are vouched for in it. ARGV: fold.
-- Returns {generation, checkpoint, reign, 1 if vouched for}.
if is_replica() then return refused('replica') end
local prefix, generation, checkpoint = generation_of('', ARGV[1])
if not prefix then return refused(generation) end
return {tonumber(generation), tonumber(checkpoint), reign(), is_vouched_for() and 1 or 0}
