"""Script modules, one file each."""
