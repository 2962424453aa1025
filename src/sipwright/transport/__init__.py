"""Sockets: how datagrams come in and go out."""
