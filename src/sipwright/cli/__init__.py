"""The `sipwright` command."""
