"""Lua that runs inside Redis, so that what belongs together happens in one step."""
