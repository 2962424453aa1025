"""What a Redis server does for a table as one step, in Lua. Moments are in milliseconds; an empty text stands for none.

`sipwright.testing.FakeRedis` has the same in Python, by the names of the scripts.
"""

from __future__ import annotations

from sipwright.redis.scripts import LuaScript

# key; amount, initial value, time to live, 1 to begin it anew -> the sum, or nothing where there is no integer
ADD = LuaScript(
    "sht_add",
    """
local value = redis.call('GET', KEYS[1])
local is_new = not value
if is_new then
  if ARGV[2] == '' then return false end
  redis.call('SET', KEYS[1], ARGV[2])
elseif value ~= '0' and not string.match(value, '^%-?[1-9]%d*$') then
  return false
end
local sum = redis.pcall('INCRBY', KEYS[1], ARGV[1])
if type(sum) == 'table' then return false end
if ARGV[3] == '' then
  redis.call('PERSIST', KEYS[1])
elseif is_new or ARGV[4] == '1' then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return redis.call('GET', KEYS[1])
""",
)

# key; value, time to live: a key that is there keeps the moment when it expires
SET_KEEPING = LuaScript(
    "sht_set_keeping",
    """
local left = redis.call('PTTL', KEYS[1])
if left == -1 then return redis.call('SET', KEYS[1], ARGV[1]) end
if left == -2 then left = ARGV[2] end
return redis.call('SET', KEYS[1], ARGV[1], 'PX', math.max(tonumber(left), 1))
""",
)

# keys; the value that each of them had -> how many still had it, and are deleted
REMOVE = LuaScript(
    "sht_remove",
    """
local removed = 0
for i, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[i] then removed = removed + redis.call('DEL', key) end
end
return removed
""",
)

# key; owner, time to live -> 1 where the owner has the lock now
LOCK = LuaScript(
    "sht_lock",
    """
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""",
)

# key; owner -> 1 where the owner had the lock
UNLOCK = LuaScript(
    "sht_unlock",
    """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""",
)
