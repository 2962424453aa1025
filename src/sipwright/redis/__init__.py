"""A Redis client on asyncio for code that may not wait: commands with callbacks, pipelined by turns of the loop."""
