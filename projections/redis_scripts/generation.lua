-- What every script begins with: which generation of a partition's views the call is about, and its keys.
--
-- KEYS[1] is the partition's own hash. All other keys begin with its name, and so lie in the same slot:
--   serving, previous, latest, g<number> = fold   in KEYS[1]: which generations there are and which one serves
--   reign               in KEYS[1]: in which time of its master the views had all that was logged before it
--   <generation>m   hash: checkpoint, fold, counts, what was folded last, of which log; `until` while it is being built,
--                   `revision` once a thread was put in anew
--   <generation>t<id>   a thread: header, head, summary, and the latest part of its offset index
--   <generation>x<id>   the earlier part of a long offset index, only ever appended to
--   <generation>i, d    all ids but deleted ones; the deleted ones (sorted sets, every score 0)
--   <generation>f       hash: frozen threads, and why
--   <generation>p       hash: number of each provider that has lists of its own
--   <generation>c<shelf><number>, u<shelf><number>   the listed ids of a provider by created and by updated
local home = KEYS[1]

local function refused(why)
    return {0, why}
end

-- Prefix, number, checkpoint and revision of the generation asked for, or of the serving one ('' is asked); or nil and why
-- not.
local function generation_of(asked, fold)
    local number = asked
    if asked == '' then
        number = redis.call('HGET', home, 'serving')
        if not number then return nil, 'absent' end
    end
    local prefix = home .. number
    local meta = redis.call('HMGET', prefix .. 'm', 'checkpoint', 'fold', 'revision')
    if not meta[1] then return nil, 'absent' end
    if meta[2] ~= fold then return nil, 'fold' end
    return prefix, number, meta[1], meta[3] or '0'
end

local asked_once
local function replication()
    asked_once = asked_once or redis.call('INFO', 'replication')
    return asked_once
end

-- Reading scripts may run where writing ones may not, and so ask for themselves whether this is a master.
local function is_replica()
    return string.find(replication(), 'role:slave', 1, true) ~= nil
end

-- Names the time for which this server is the master: one that was promoted, or came back, may have lost its last writes.
local function reign()
    return string.match(replication(), 'master_replid:(%x+)')
end

-- Whether the log's end was reached in this reign: what anybody was told before is then in the views.
local function is_vouched_for()
    return redis.call('HGET', home, 'reign') == reign()
end

-- A thread is kept as a header of the lengths below, the head and the summary as JSON, and the end of its index.
local HEADER = '>I6I4I4I4'
local HEADER_BYTES = 18
