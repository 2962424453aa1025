"""One worker: the main path from a datagram to a script and back."""
