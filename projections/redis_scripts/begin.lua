-- A generation to be built beside the serving one. ARGV: fold, cluster, first event id, offset to fold from, end of the log.
-- One that is being built already, by this fold from this log, is gone on with. Returns {generation, checkpoint}.
local all = redis.call('HGETALL', home)
for i = 1, #all, 2 do
    local number = string.match(all[i], '^g(%d+)$')
    if number and all[i + 1] == ARGV[1] then
        local meta = redis.call('HMGET', home .. number .. 'm', 'until', 'cluster', 'first', 'checkpoint')
        if meta[1] and meta[2] == ARGV[2] and (meta[3] == ARGV[3] or meta[3] == '') then
            return {tonumber(number), tonumber(meta[4])}
        end
    end
end
local number = redis.call('HINCRBY', home, 'latest', 1)
redis.call('HSET', home, 'g' .. number, ARGV[1])
redis.call('HSET', home .. number .. 'm', 'checkpoint', ARGV[4], 'fold', ARGV[1], 'cluster', ARGV[2], 'first', ARGV[3],
    'until', ARGV[5])
return {number, tonumber(ARGV[4])}
