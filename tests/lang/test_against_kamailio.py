"""The same script on Kamailio and here: expressions, truth, control flow and return codes give the same.

What is meant to differ is listed with both results, so that a change of either is seen.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RESULTS = Path(__file__).parent / "results.txt"

SETUP = """
  $avp(s) = "5"; $avp(i) = 5; $avp(a) = "abc"; $avp(A) = "ABC"; $avp(e) = ""; $avp(z) = 0; $avp(x) = "12abc";
  $avp(neg) = -7; $avp(s10) = "10"; $avp(s9) = "9"; $avp(h) = "0x10"; $avp(o) = "010"; $avp(five) = "05";
  $var(name) = "FIVE"; $var(neg) = -2; $var(one) = 1; $var(zero) = 0; $var(text) = "text"; $var(empty) = "";
"""

EXPRESSIONS = r"""
1+2
"1"+2
"a"+"b"
7/2
-7/2
-7 mod 3
7 mod 3
$null + 1
1 + $null
"a" + $null
$null + "a"
!1
!0
- 3 + 4
~5
1<<4
256>>2
-8>>1
6&3
6|1
6^3
1 == 1
"1" == 1
"a" == 0
"abc" == "ABC"
"01" == 1
"01" eq 1
1 ieq 2
$null == 0
$null == ""
$null == $null
"" == $null
$var(none)
$var(none) == $null
$var(none) == 0
$var(none) == ""
defined $avp(none)
defined $var(none)
strempty("")
strempty($avp(none))
strempty("a")
strlen("abc")
strlen($null)
(int)"12"
(int)"12abc"
(int)""
(int)"-5"
(int)"+5"
(int)"5 "
(int)" 7"
(int)"0x1f"
(int)"0X1F"
(str)12 + 3
"3" + 1 + 2
1 + 2 * 3
1 | 2 & 3
1 | 2 == 2
1 < 2
1 && 0
0 || 0
"abc" =~ "B"
"abc" =~ "^b"
2 - 1 - 1
5 & 4 == 4
!1 == 0
!1 + 1
-2 * 3
1 - -1
1 << 2 + 1
0x10
010
101b
"a" ne "b"
true
off
"abc$rm"
'abc$rm'
"a\tb\x41\101\"q\\\d"
'a\tb'
"a" "b"
$var(none) + "a"
$var(none) + 1
$avp(i)+$avp(s)
$avp(s)+$avp(i)
$avp(i)+$avp(a)
$avp(a)+$avp(i)
$avp(n)+$avp(i)
$avp(n)+$avp(a)
$avp(i)+$avp(n)
$avp(a)+$avp(n)
$avp(n)+$avp(n)
1+$avp(s)
1+$avp(a)
"1"+$avp(i)
$avp(s)+1
$avp(a)+1
$avp(n)+1
$avp(s)+"1"
$avp(i)+"1"
$avp(n)+"1"
$avp(s)-1
$avp(a)-1
$avp(x)-1
$avp(e)-1
$avp(n)-1
$avp(s)*$avp(s)
$avp(h)*1
$avp(o)*1
$avp(neg)/2
$avp(neg) mod 3
$avp(i)/$avp(z)
$avp(i) mod $avp(z)
-$avp(s)
-$avp(a)
-$avp(n)
!$avp(s)
!$avp(a)
!$avp(e)
!$avp(n)
!$avp(z)
~$avp(s)
$avp(s) == 5
$avp(s) == "5"
$avp(i) == "5"
$avp(i) == "05"
$avp(five) == 5
$avp(i) == 5
$avp(a) == 0
$avp(a) == "abc"
$avp(a) == "ABC"
$avp(a) == $avp(A)
$avp(e) == 0
$avp(e) == ""
$avp(n) == 0
$avp(n) == ""
$avp(n) == "a"
$avp(n) != "a"
$avp(n) == 5
$avp(e) != 0
$avp(z) == ""
$avp(h) == 16
$avp(n) == $avp(z)
$avp(n) == $avp(e)
$avp(z) == $avp(n)
$avp(e) == $avp(n)
$avp(n) == $avp(nn)
$avp(i) == $avp(s)
$avp(s) == $avp(i)
$avp(a) == $avp(z)
$avp(a) != $avp(z)
5 == $avp(s)
0 == $avp(n)
"5" == $avp(i)
"" == $avp(n)
$avp(a) != 0
$avp(n) != 0
$avp(n) != ""
$avp(n) != $null
$avp(i) eq $avp(s)
$avp(i) ne "5"
$avp(n) eq ""
$avp(s) ieq $avp(i)
$avp(a) ieq 0
$avp(h) ieq 16
$avp(s) < $avp(i)
$avp(s10) < $avp(s9)
$avp(s10) > 9
$avp(a) > 0
$avp(n) < 1
$avp(n) >= 0
$avp(a) && 1 == 1
$avp(n) || 1 == 0
$avp(a) =~ "B"
$avp(a) =~ "^(A|x)"
$avp(i) =~ "5"
$avp(n) =~ ".*"
$avp(a) =~ $avp(A)
$avp(a) =~ $avp(n)
$avp(s) =~ $avp(i)
$avp(a) =~ "^[[:alpha:]]+$"
$avp(a) =~ "[0-9]|c$"
!($avp(a) =~ "B")
not $avp(z)
strlen($avp(i))
strempty($avp(i))
strempty($avp(z))
strempty($avp(e))
defined $avp(n) == 0
defined $avp(i) + 1
!defined $avp(n)
defined $avp(i) && defined $avp(n)
$avp(s) & 4
$avp(a) | 1
$avp(s) << 1
(int)$avp(s) + 1
(int)$avp(x) + 1
(str)$avp(i) + 1
(str)$avp(n) + "x"
$avp(i) + 1 + "a"
"a" + $avp(i) + 1
$avp(a) == "abc" && $avp(i) == 5
1 - 2 + $avp(i)
strempty($avp(n)) == 1
5 + is_method("OPTIONS")
5 + is_method("INVITE")
is_method("OPTIONS")
is_method("INVITE")
!is_method("INVITE")
-is_method("INVITE")
is_method("OPTIONS") == 1
is_method("INVITE") == 0
is_method("INVITE") < 0
is_method("INVITE") == -1
1 + route(FIVE)
route(NEG)
route(FIVE)
1 + route(NEG)
method=="OPTIONS"
method=~"^O"
uri=~"bob"
src_ip==127.0.0.1
src_ip==127.0.0.0/8
src_ip==10.0.0.0/8
src_ip!=10.0.0.0/255.0.0.0
src_ip=="127.0.0.1"
proto==UDP
proto!=TCP
msg:len > 10
from_uri=~"alice"
from_uri=="sip:alice@example.com"
$avp(i) mod 2 == 1
-$avp(i) + 3
!$avp(n) + 1
"a" + 1 + 2 * 3
8 / 2 / 2
2 * 3 mod 4
1 | 6 ^ 2
1 << 1 << 1
$avp(neg) >> 1
7 & 3 == 3
($avp(i) + 1) * 2
$rm + "/" + $rm
""".strip().splitlines()

# A number is never equal to a text that is no number (Kamailio takes such a text as 0); numbers have 64 bits.
DIFFERENT = {
    '$avp(z) == "abc"': ("1", "0"),
    "$avp(z) == $avp(a)": ("1", "0"),
    "0 == $avp(a)": ("1", "0"),
    "2147483647 + 1": ("-2147483648", "2147483648"),
}

CONDITIONS = """
-1
1
0
$var(neg)
$var(text)
$var(empty)
$null
-1 && 1
$var(neg) && $var(one)
$var(one) && $var(neg)
$var(neg) || $var(zero)
!$var(neg)
!!$var(neg)
route(NEG)
!route(NEG)
route(NEG) == -3
route(FIVE) == 5
route(FIVE) + 1 == 6
route(NEG) < 0
route(NEG) || 0
route(NEG) && $var(one)
$var(one) && route(NEG)
$var(zero) || route(NEG)
1 == 1 && route(FIVE)
"a"
"1"
is_method("INVITE") or is_method("OPTIONS")
not is_method("INVITE") and is_method("OPTIONS")
defined $avp(n) || 1
$avp(neg)
""".strip().splitlines()

ROUTES = """
route[NONE] { ; }
route[FIVE] { return 5; }
route[NEG] { return -3; }
route[RET] { return; }
route[PLAIN] { $var(x) = 1; }
route[ASG0] { $var(x) = 0; }
route[LASTNEG] { is_method("INVITE"); }
route[LASTPOS] { is_method("OPTIONS"); }
route[IFNEG] { if (is_method("OPTIONS")) { is_method("INVITE"); } }
route[IFFALSE] { if (is_method("INVITE")) { $var(x) = 1; } }
route[IFFALSE2] { is_method("INVITE"); if (is_method("INVITE")) { $var(x) = 1; } }
route[ELSE] { if (is_method("INVITE")) { $var(x) = 1; } else { is_method("INVITE"); } }
route[NEGTHENASG] { is_method("INVITE"); $var(x) = 1; }
route[CALLNEG] { route(NEG); }
route[CALLFIVE] { route(FIVE); }
route[WH] { $var(i) = 0; while ($var(i) < 3) { $var(i) = $var(i) + 1; is_method("INVITE"); } }
route[WHASG] { $var(i) = 0; while ($var(i) < 3) { $var(i) = $var(i) + 1; } }
route[WHNONE] { while (is_method("INVITE")) { $var(i) = 99; } }
route[WHB] { $var(i) = 0; while (1) { $var(i) = $var(i) + 1; if ($var(i) > 5) break; } }
route[BRK] { is_method("INVITE"); break; xlog("L_ERR", "R: after break\\n"); }
route[BRKIF] { if (1) { break; } xlog("L_ERR", "R: after break\\n"); }
route[SW] { switch ($var(one)) { case 1: is_method("INVITE"); break; default: is_method("OPTIONS"); } }
route[SWD] { switch ($var(one)) { case 2: is_method("OPTIONS"); break; default: is_method("INVITE"); } }
route[SWNONE] { is_method("INVITE"); switch ($var(one)) { case 2: is_method("INVITE"); } }
route[SWRET] { switch ($var(one)) { case 1: return -7; } }
route[RETNEG1] { return(-1); }
route[RETEXPR] { return ($var(one) + 1) * 2; }
route[RETVAR] { return $avp(i); }
route[RETTEXT] { return $avp(s); }
route[XLOGLAST] { xlog("L_ERR", ""); }
route[RUNAWAY] { $var(i) = 0; while (1) { $var(i) = $var(i) + 1; } }
route[ZERO] { return 0; }
route[EXIT] { exit; }
route[DEEP] { route(ZERO); xlog("L_ERR", "R: after ZERO\\n"); }
"""
# These end the script; they run last, one of them.
ENDING = ("ZERO", "EXIT", "DEEP")

STATEMENTS = [
    line.replace('say("', 'xlog("L_ERR", "R: ')
    for line in """
$var(x) = 1; switch ($var(x)) { case 1: say("1\\n"); case 2: say("2\\n"); break; case 3: say("3\\n"); \
default: say("d\\n"); }
$var(x) = 3; switch ($var(x)) { case 1: say("1\\n"); case 2: say("2\\n"); break; case 3: say("3\\n"); \
default: say("d\\n"); }
switch ($var(x)) { case 9: default: say("d\\n"); break; case 3: say("3\\n"); }
switch ($avp(a)) { case "abd": say("abd\\n"); break; case /"^AB": say("regex\\n"); break; default: say("d\\n"); }
switch ($avp(a)) { case 0: say("0\\n"); break; default: say("d\\n"); }
switch ($avp(n)) { case 0: say("n0\\n"); break; default: say("nd\\n"); }
switch ($avp(n)) { case "": say("ne\\n"); break; default: say("nd\\n"); }
switch ($rm) { case "INVITE": case "OPTIONS": say("io\\n"); break; case "BYE": say("bye\\n"); }
$var(i) = 0; while ($var(i) < 5) { $var(i) = $var(i) + 1; switch ($var(i)) { case 3: break; \
default: say("loop $var(i)\\n"); } if ($var(i) == 4) break; }
$var(i) = 0; while ($var(i) - 3) { $var(i) = $var(i) + 1; say("while $var(i)\\n"); }
$var(i) = 3; while ($var(i) > 0 && is_method("OPTIONS")) { $var(i) = $var(i) - 1; say("down $var(i)\\n"); }
is_method("INVITE"); say("rc $rc $retcode $?\\n");
is_method("INVITE"); $var(q) = $rc; say("saved $var(q)\\n");
is_method("INVITE"); $var(q) = 7; $var(q) = $rc; say("over an assignment $var(q)\\n");
if (is_method("INVITE")) { ; } $var(q) = $rc; say("after if $var(q)\\n");
if (!is_method("INVITE")) { $var(q) = $rc; say("in if $var(q)\\n"); }
route(NEG); $var(q) = $rc; say("after route $var(q)\\n");
if (route(FIVE)) { $var(q) = $rc; say("in if route $var(q)\\n"); }
say("dollar $$x $rm {x} %d $avp(n) $(rm{s.len})\\n");
route("FI" + "VE"); say("joined name $rc\\n");
route($var(name)); say("name in a variable $rc\\n");
if $var(one) == 1 say("no parentheses\\n"); else if ($var(one) == 2) { ; } else { ; }
if ($var(one) == 1) { if ($var(one) == 2) say("a\\n"); else say("inner else\\n"); }
say("" "adjacent " "strings\\n");
""".strip().splitlines()
]

OUR_HEADER = "debug=0\n"
KAMAILIO_HEADER = """#!KAMAILIO
debug=0
log_stderror=yes
children=1
disable_tcp=yes
loadmodule "pv.so"
loadmodule "xlog.so"
loadmodule "textops.so"
loadmodule "sl.so"
loadmodule "siputils.so"
"""
REQUEST = (
    "OPTIONS sip:bob@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {host}:{port};branch=z9hG4bK1\r\n"
    "From: <sip:alice@example.com>;tag=1\r\nTo: <sip:bob@example.com>\r\nCall-ID: c1\r\nCSeq: 7 OPTIONS\r\n"
    "Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
)
READABLE = {
    "rm": "OPTIONS",
    "ru": "sip:bob@127.0.0.1",
    "fu": "sip:alice@example.com",
    "si": "127.0.0.1",
    "proto": "udp",
    "ml": 300,
}


def _lines() -> list[str]:
    lines = [f'$var(r) = "unset"; $var(r) = {e};' for e in (*EXPRESSIONS, *DIFFERENT)]
    lines = [f'{line} xlog("L_ERR", "R: {i}=[$var(r)]\\n");' for i, line in enumerate(lines)]
    lines += [
        f'if ({c}) xlog("L_ERR", "R: if {i} T\\n"); else xlog("L_ERR", "R: if {i} F\\n");'
        for i, c in enumerate(CONDITIONS)
    ]
    for name in re.findall(r"route\[(\w+)\]", ROUTES):
        if name not in ENDING:
            lines.append(f'$var(i) = -1; route({name}); xlog("L_ERR", "R: {name} $rc $var(i)\\n");')
            lines.append(f'if (route({name})) xlog("L_ERR", "R: {name} T\\n"); else xlog("L_ERR", "R: {name} F\\n");')
    return lines + STATEMENTS


# A route for each handful of lines: Kamailio's one request buffer is small. Then what ends the script.
def _script() -> str:
    lines = _lines()
    groups = [lines[i : i + 20] for i in range(0, len(lines), 20)]
    body = [f"route[G{n}] {{\n  " + "\n  ".join(group) + "\n}\n" for n, group in enumerate(groups)]
    calls = " ".join(f"route(G{n});" for n in range(len(groups)))
    end = 'xlog("L_ERR", "R: END\\n"); route(DEEP); xlog("L_ERR", "R: not reached\\n");'
    return f"{ROUTES}{''.join(body)}request_route {{{SETUP}  {calls}\n  {end}\n}}\n"


@pytest.fixture(scope="module")
def kamailio_lines(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    if shutil.which("kamailio") is None:
        if os.environ.get("CI"):
            pytest.fail("kamailio is not installed")
        pytest.skip("kamailio is not installed")
    folder = tmp_path_factory.mktemp("kamailio")
    return _run_kamailio(folder, KAMAILIO_HEADER + _script())


def _run_kamailio(folder: Path, text: str) -> list[str]:
    config, output = folder / "test.cfg", folder / "output"
    config.write_text(text)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe,
    ):
        client.bind(("127.0.0.1", 0))
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        host, own_port = client.getsockname()
        command = [
            "kamailio",
            "-DD",
            "-E",
            "-f",
            str(config),
            "-l",
            f"udp:127.0.0.1:{port}",
            "-n",
            "1",
            "-Y",
            str(folder),
        ]
        with output.open("w") as file:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file)
            try:
                for _ in range(60):
                    time.sleep(0.1)
                    if process.poll() is not None or "R: END" in output.read_text():
                        break
                    client.sendto(REQUEST.format(host=host, port=own_port).encode(), ("127.0.0.1", port))
                time.sleep(0.2)
            finally:
                process.terminate()
                process.wait(10)
    lines = _results(re.findall(r"<script>: R: (.*)", output.read_text()))
    assert lines, output.read_text()
    return lines


# One run: the request may have been sent more than once before Kamailio listened.
def _results(lines: list[str]) -> list[str]:
    return lines[: lines.index("END") + 1] if "END" in lines else []


def _our_lines(script: Callable[..., Any]) -> list[str]:
    done = script(OUR_HEADER + _script()).run(**READABLE)
    ours = [line.removeprefix("R: ").removesuffix("\n") for line in done if line]
    assert "not reached" not in ours
    assert "after ZERO" not in ours
    return _results(ours)


def test_every_line_gives_what_is_written_down(script: Callable[..., Any]) -> None:
    """Where Kamailio is not installed, `results.txt` stands for it: the expression or statement, and what it gives."""
    expressions = [*EXPRESSIONS, *DIFFERENT]
    told = []
    for line in _our_lines(script):
        number, equals, value = line.partition("=[")
        told.append(f"{expressions[int(number)]} -> {value.removesuffix(']')}" if equals else line)
    assert told == RESULTS.read_text(encoding="utf-8").splitlines()


@pytest.mark.scenario
def test_every_line_gives_the_same_on_kamailio(kamailio_lines: list[str], script: Callable[..., Any]) -> None:
    ours = _our_lines(script)
    expressions = [*EXPRESSIONS, *DIFFERENT]
    theirs = kamailio_lines
    differences = []
    for our, their in zip(ours, theirs, strict=True):
        number = re.match(r"(\d+)=", our)
        expression = expressions[int(number[1])] if number else our
        if expression in DIFFERENT:
            expected = DIFFERENT[expression]
            assert (their.partition("=")[2], our.partition("=")[2]) == (f"[{expected[0]}]", f"[{expected[1]}]"), (
                expression
            )
        elif re.sub(r" 0 ", " -1 ", their) != re.sub(r" 0 ", " -1 ", our):
            differences.append((expression, their, our))
    assert differences == []


def test_division_by_zero_and_endless_loops_are_reported_with_their_place(script: Callable[..., Any]) -> None:
    compiled = script("request_route {\n $var(x) = 1 / $var(y);\n while (1) { $var(y) = 0; }\n}\n")
    compiled.run()
    assert compiled.reports == [
        "test.cfg:2: /: division by zero",
        "test.cfg:3: while: stopped after 100 rounds (max_while_loops)",
    ]
