-- Removes some of a generation that does not serve. ARGV: generation, most threads.
-- Returns {generation, 1 while something is left of it}.
local number, limit = ARGV[1], tonumber(ARGV[2])
if redis.call('HGET', home, 'serving') == number then return refused('serving') end
if redis.call('HGET', home, 'previous') == number then redis.call('HDEL', home, 'previous') end
local prefix = home .. number
-- From here on nobody reads or folds it, so that what is left can only become less.
redis.call('DEL', prefix .. 'm')
for _, kind in ipairs({'i', 'd'}) do
    local ids = redis.call('ZRANGE', prefix .. kind, 0, limit - 1)
    for _, id in ipairs(ids) do
        redis.call('UNLINK', prefix .. 't' .. id, prefix .. 'x' .. id)
        redis.call('ZREM', prefix .. kind, id)
    end
    if #ids > 0 then return {tonumber(number), 1} end
end
local lists = redis.call('HVALS', prefix .. 'p')
lists[#lists + 1] = '0'
for _, list in ipairs(lists) do
    for _, shelf in ipairs({'0', '1'}) do
        redis.call('UNLINK', prefix .. 'c' .. shelf .. list, prefix .. 'u' .. shelf .. list)
    end
end
redis.call('UNLINK', prefix .. 'f', prefix .. 'p')
redis.call('HDEL', home, 'g' .. number)
return {tonumber(number), 0}
