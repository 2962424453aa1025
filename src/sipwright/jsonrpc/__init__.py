"""JSON-RPC 2.0 over netstrings: the sans-I/O cores, and the asyncio client and server built on them."""
