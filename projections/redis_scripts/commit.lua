-- Views, index, lists and checkpoint in one step, if generation, checkpoint and revision are still the expected ones.
-- ARGV: generation or '', fold, expected generation, checkpoint and revision, checkpoint, revision, channel, last offset ('':
-- as it was), last event id, changes in the counts of active, archived and deleted threads and of items, the ids of the threads that are known
-- already one after the other, then for each thread: id, flags, items, head, and what the flags announce, in their order.
-- Returns {generation, checkpoint}.
local SUMMARY, INDEX, UPDATED, UNLISTED, LISTED, FOUND, DELETED, FROZEN = 1, 2, 4, 8, 16, 32, 64, 128
local REPLACED, GONE = 256, 512
local KEPT_IN_THREAD = 192   -- bytes of the index beside the head; what is longer moves to a string of its own
local OWN_LISTS = 64         -- providers with lists of their own; the others share list 0

local prefix, generation, checkpoint, revision = generation_of(ARGV[1], ARGV[2])
if not prefix then return refused(generation) end
if generation ~= ARGV[3] or checkpoint ~= ARGV[4] or revision ~= ARGV[5] then return refused('moved') end

local call, band, char, sub = redis.call, bit.band, string.char, string.sub
local threads, created, updated = prefix .. 't', prefix .. 'c', prefix .. 'u'

-- A script that fails is not rolled back. So all that is read is read and checked before anything is written.
local known = {}
for i = 1, #ARGV[15], 16 do
    local id = sub(ARGV[15], i, i + 15)
    local stored = call('GET', threads .. id)
    if not stored or #stored < HEADER_BYTES then return refused('damaged') end
    known[id] = stored
end

local meta = prefix .. 'm'
-- First, for it is refused when memory is full: nothing else was written then.
call('HSET', meta, 'checkpoint', ARGV[6])
if ARGV[9] ~= '' then call('HSET', meta, 'last', ARGV[9], 'last_id', ARGV[10]) end
if ARGV[7] ~= revision then call('HSET', meta, 'revision', ARGV[7]) end
for i, name in ipairs({'active', 'archived', 'deleted', 'items'}) do
    if ARGV[10 + i] ~= '0' then call('HINCRBY', meta, name, ARGV[10 + i]) end
end

local numbers = {}
local function list_of(provider)
    local number = numbers[provider]
    if number then return number end
    local lists = prefix .. 'p'
    number = call('HGET', lists, provider)
    if not number then
        local count = call('HLEN', lists)
        if count < OWN_LISTS then
            number = tostring(count + 1)
            call('HSET', lists, provider, number)
        else
            number = '0'
        end
    end
    numbers[provider] = number
    return number
end

local function varint(number)
    local groups = ''
    while number >= 128 do
        groups = groups .. char(number % 128 + 128)
        number = math.floor(number / 128)
    end
    return groups .. char(number % 128)
end

local at, stop = 16, #ARGV
while at < stop do
    local id, flags, total, head = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], ARGV[at + 3]
    at = at + 4
    local last, summary, index = 0, '', ''
    local stored = known[id]
    if stored then
        local _, head_bytes, summary_bytes
        last, _, head_bytes, summary_bytes = struct.unpack(HEADER, stored)
        local summary_end = HEADER_BYTES + head_bytes + summary_bytes
        summary = sub(stored, HEADER_BYTES + head_bytes + 1, summary_end)
        index = sub(stored, summary_end + 1)
    end
    if band(flags, SUMMARY) ~= 0 then
        summary = ARGV[at]
        at = at + 1
    end
    if band(flags, REPLACED) ~= 0 then
        last, index = 0, ''
        call('UNLINK', prefix .. 'x' .. id)
        call('HDEL', prefix .. 'f', id)
    end
    if band(flags, INDEX) ~= 0 then
        index = index .. varint(tonumber(ARGV[at]) - last) .. ARGV[at + 1]
        last = tonumber(ARGV[at + 2])
        at = at + 3
        if #index > KEPT_IN_THREAD then
            call('APPEND', prefix .. 'x' .. id, index)
            index = ''
        end
    end
    if band(flags, DELETED) ~= 0 then
        last, index = 0, ''
        call('UNLINK', prefix .. 'x' .. id)
        call('ZREM', prefix .. 'i', id)
        call('ZADD', prefix .. 'd', 0, id)
    end
    call('SET', threads .. id, struct.pack(HEADER, last, tonumber(total), #head, #summary) .. head .. summary .. index)
    if band(flags, UPDATED) ~= 0 then
        call('ZADD', updated .. ARGV[at] .. list_of(ARGV[at + 1]), ARGV[at + 2], id)
        at = at + 3
    end
    if band(flags, UNLISTED) ~= 0 then
        local list = ARGV[at] .. list_of(ARGV[at + 1])
        call('ZREM', created .. list, id)
        call('ZREM', updated .. list, id)
        at = at + 2
    end
    if band(flags, LISTED) ~= 0 then
        local list = ARGV[at] .. list_of(ARGV[at + 1])
        call('ZADD', created .. list, ARGV[at + 2], id)
        call('ZADD', updated .. list, ARGV[at + 3], id)
        at = at + 4
    end
    if band(flags, FOUND) ~= 0 then call('ZADD', prefix .. 'i', 0, id) end
    if band(flags, GONE) ~= 0 then
        -- What it froze at did not count, and nothing else was said of it: there is no such thread.
        call('UNLINK', threads .. id)
        call('ZREM', prefix .. 'i', id)
    end
    if band(flags, FROZEN) ~= 0 then
        call('HSET', prefix .. 'f', id, ARGV[at])
        at = at + 1
    end
end

-- A hint: whoever waits for the checkpoint reads it again.
call('PUBLISH', ARGV[8], ARGV[6])
return {tonumber(generation), tonumber(ARGV[6])}
