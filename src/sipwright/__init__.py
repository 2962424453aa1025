"""sipwright: a SIP routing server whose scripts ask JSON-RPC services without blocking.

The JSON-RPC library is `sipwright.jsonrpc`; drivers and fakes for tests of scripts are in `sipwright.testing`.
"""

__version__ = "0.1.0"
