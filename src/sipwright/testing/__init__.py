"""Fakes and drivers for testing scripts and JSON-RPC services."""
