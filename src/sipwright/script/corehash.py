"""Kamailio's hash function of texts, as scripts see it."""

from __future__ import annotations


def core_hash(*texts: bytes, size: int = 0) -> int:
    """Return the hash of some texts, 32 bits; of them what is left modulo `size`, a power of two."""
    number = 0
    for text in texts:
        whole = len(text) - len(text) % 4
        for at in range(0, whole, 4):
            word = int.from_bytes(text[at : at + 4], "big")
            number += word ^ word >> 3
        word = int.from_bytes(text[whole:], "big")
        number = number + (word ^ word >> 3) & 0xFFFFFFFF
    number = number + (number >> 11) + (number >> 13) + (number >> 23) & 0xFFFFFFFF
    return number & size - 1 if size else number
