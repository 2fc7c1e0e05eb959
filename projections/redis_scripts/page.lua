-- The first candidates for a page. ARGV: fold, kind and shelf of the list, 1 if descending, most ids of a list, score and id
-- of the cursor ('' for none), providers ('' for none at all: every list).
-- Returns {generation, checkpoint, scores and ids packed as a double and 16 bytes each, those of them behind which their
-- list goes on}.
if is_replica() then return refused('replica') end
local prefix, generation, checkpoint = generation_of('', ARGV[1])
if not prefix then return refused(generation) end
if not is_vouched_for() then return refused('unvouched') end
local descending, limit = ARGV[3] == '1', tonumber(ARGV[4])
local score, id = ARGV[5], ARGV[6]

-- Every provider with a list of its own, and the list which all others share.
local numbers = {['0'] = true}
if #ARGV == 6 then
    for _, number in ipairs(redis.call('HVALS', prefix .. 'p')) do numbers[number] = true end
else
    numbers = {}
    for i = 7, #ARGV do
        numbers[redis.call('HGET', prefix .. 'p', ARGV[i]) or '0'] = true
    end
end

-- Compares bytes: `<` would go by the collation of the server's locale.
local function precedes(one, other)
    local a, b, c = struct.unpack('>I6I6I4', one)
    local x, y, z = struct.unpack('>I6I6I4', other)
    if a ~= x then return a < x end
    if b ~= y then return b < y end
    return c < z
end

-- How many ids of the list lie before the place of the cursor, counted from the list's lower end.
local function place_in(list)
    if score == '' then return descending and redis.call('ZCARD', list) or 0 end
    local low = redis.call('ZCOUNT', list, '-inf', '(' .. score)
    local high = redis.call('ZCOUNT', list, '-inf', score)
    if id == '' then return descending and low or high end
    local top = high
    -- Among equal scores ids are in their order: the first one not before the cursor's is found by halving.
    while low < high do
        local middle = math.floor((low + high) / 2)
        if precedes(redis.call('ZRANGE', list, middle, middle)[1], id) then low = middle + 1 else high = middle end
    end
    if not descending and low < top and redis.call('ZRANGE', list, low, low)[1] == id then return low + 1 end
    return low
end

local packed, ends = {}, {}
for number in pairs(numbers) do
    local list = prefix .. ARGV[2] .. number
    local place = place_in(list)
    local found
    if descending then
        found = place > 0 and redis.call('ZRANGE', list, math.max(0, place - limit), place - 1, 'WITHSCORES') or {}
    else
        found = redis.call('ZRANGE', list, place, place + limit - 1, 'WITHSCORES')
    end
    local first = #packed + 1
    for i = 1, #found, 2 do
        packed[#packed + 1] = struct.pack('>d', tonumber(found[i + 1])) .. found[i]
    end
    if #found >= 2 * limit then ends[#ends + 1] = descending and packed[first] or packed[#packed] end
end
return {tonumber(generation), tonumber(checkpoint), table.concat(packed), table.concat(ends)}
