-- Mark, one thread and as much of its index as bears its latest items. ARGV: generation or '', fold, id, items, entry.
-- `items`: the first ordinal wanted; if negative, that many from the end; '' for no index. `entry`: most bytes of one.
-- Returns {generation, checkpoint, thread or nil, the index's earlier part as far as it is needed, 1 if vouched for}.
if is_replica() then return refused('replica') end
local prefix, generation, checkpoint = generation_of(ARGV[1], ARGV[2])
if not prefix then return refused(generation) end
local id, from = ARGV[3], tonumber(ARGV[4])
local thread = redis.call('GET', prefix .. 't' .. id)
local earlier = ''
if thread and from then
    local _, total, head, summary = struct.unpack(HEADER, thread)
    local wanted = from < 0 and -from or total - from
    -- Of n items at most n records exist, so that many entries are enough.
    local missing = wanted * tonumber(ARGV[5]) - (#thread - HEADER_BYTES - head - summary)
    if missing > 0 then
        earlier = redis.call('GETRANGE', prefix .. 'x' .. id, string.format('%.0f', -missing), '-1')
    end
end
return {tonumber(generation), tonumber(checkpoint), thread, earlier, is_vouched_for() and 1 or 0}
