-- What is known of the generations. ARGV: none. Returns, for each: {number, role, checkpoint, fold, cluster, first, last, last_id}.
if is_replica() then return refused('replica') end
local pointers = redis.call('HMGET', home, 'serving', 'previous')
local all, found = redis.call('HGETALL', home), {}
for i = 1, #all, 2 do
    local number = string.match(all[i], '^g(%d+)$')
    if number then
        local meta = redis.call('HMGET', home .. number .. 'm', 'checkpoint', 'cluster', 'first', 'last', 'last_id', 'until')
        local role = number == pointers[1] and 'serving' or number == pointers[2] and 'previous'
            or not meta[1] and 'dropped' or meta[6] and 'building' or 'left'
        found[#found + 1] = {tonumber(number), role, tonumber(meta[1] or 0), all[i + 1], meta[2] or '', meta[3] or '',
            tonumber(meta[4] or -1), meta[5] or ''}
    end
end
return found
