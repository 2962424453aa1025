"""Scripts with pieces put in and taken out at random: whatever is wrong is told as faults, and nothing hangs."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest

from sipwright.errors import ConfigErrors

SCRIPT = """
#!define LIMIT 3
#!ifdef LIMIT
modparam("fake", "timeout", LIMIT)
#!endif
listen=udp:127.0.0.1:5060
request_route {
  if (is_method("INVITE|OPTIONS") && !($var(x) == LIMIT) || src_ip == 10.0.0.0/8) {
    log("$ru and $(ru{s.len}) \\n"); /* comment */
  } else if not defined $avp(a) { t_on_failure("F"); } else $var(y) = (int)"5" + -3 * 2;
  switch ($rm) { case "A": case /"^B": log('raw'); break; default: route(A); }
  while ($var(i) < 3) { $var(i) = $var(i) + 1; if ($ru =~ "^[[:alpha:]]+$") break; }
  request("m", "A", "$var(z)");
}
route[A] { return(-1); }
failure_route[F] { drop; }
event_route[fake:start] { exit; }
"""
PIECES = (
    *"{}()[]\"';,$@:=/-!.",
    *(
        "/*",
        "*/",
        "==",
        "$(",
        "{s.len}",
        "#!ifdef X\n",
        "#!endif\n",
        "#!define A A\n",
        "\n",
        "10.0.0.0/8",
        "route[A] {",
    ),
    *("if", "else", "while", "switch", "case", "default:", "return", "exit;", "break;", "$null", "(int)", "strlen("),
)


@pytest.mark.parametrize("seed", range(10))
def test_a_mangled_script_compiles_or_has_faults(script: Callable[..., Any], seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(100):
        text = SCRIPT
        for _ in range(chance.randrange(1, 5)):
            at, other = chance.randrange(len(text)), chance.randrange(len(text))
            text = chance.choice(
                (
                    text[:at] + chance.choice(PIECES) + text[at:],
                    text[:at] + text[at + chance.randrange(1, 8) :],
                    text[:at] + text[other : other + 20] + text[at:],
                )
            )
        with contextlib.suppress(ConfigErrors):
            script(text)
