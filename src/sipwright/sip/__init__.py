"""SIP messages (RFC 3261): grammar, URIs, lazy messages, parsing and building. No I/O, no transactions."""
