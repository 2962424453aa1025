"""RFC 3261 chapter 17 and RFC 6026 transaction machines, without I/O."""
