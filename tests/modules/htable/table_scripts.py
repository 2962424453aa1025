"""What scripts do with tables, each as the body of a route that leaves what it saw in `$var(o)`.

The same is run on tables of one server, on a Redis server in memory and on a real one: all of them see the same. The
tables are a, b (initval), c (autoexpire), d (autoexpire, not renewed by updates).
"""

from __future__ import annotations

TABLES = ("a=>size=4", "b=>size=4;initval=10", "c=>size=4;autoexpire=100", "d=>size=4;autoexpire=100;updateexpire=0")


def saw(*variables: str) -> str:
    """Return the statement that adds variables to what was seen."""
    return f"$var(o) = $_s($var(o)|{','.join(variables)});"


FILL = """
$sht(c=>aa) = "v1"; $sht(c=>ab) = "v2"; $sht(c=>bb) = "v1"; $sht(c=>num) = 7; $sht(c=>n2) = 9; $sht(a=>aa) = "other";
"""
WALK = """
$var(n) = 0; $var(sum) = 0; $var(texts) = 0;
sht_iterator_start("i", "c");
while (sht_iterator_next("i")) {
    $var(n) = $var(n) + 1;
    if (is_int("$shtitval(i)")) $var(sum) = $var(sum) + $shtitval(i);
    else if ($shtitkey(i) =~ "^(aa|ab|bb)$") $var(texts) = $var(texts) + strlen($shtitval(i));
}
"""

BODIES = {
    "values": '$sht(a=>x) = "text"; $sht(a=>y) = 5; ' + saw("$sht(a=>x)", "$sht(a=>y)", "$sht(a=>z)", "$sht(b=>z)"),
    "types": """
        $sht(a=>1) = "5"; $sht(a=>2) = 5; $sht(a=>3) = "s:5"; $sht(a=>4) = ""; $sht(a=>5) = "007"; $sht(a=>6) = -3;
        $sht(a=>7) = "-0"; $sht(a=>8) = "99999999999999999999"; $sht(a=>9) = "s:"; $sht(a=>10) = "two words";
        $var(k) = 1;
        while ($var(k) < 11) {
            if (is_int("$sht(a=>$var(k))")) $var(o) = $var(o) + "int ";
            $var(o) = $_s($var(o)[$sht(a=>$var(k))]);
            $var(k) = $var(k) + 1;
        }
    """,
    "deleting_by_null": "$sht(a=>x) = 1; $sht(a=>x) = $null; $sht(b=>x) = 1; $sht(b=>x) = $null;"
    + saw("$sht(a=>x)", "$sht(b=>x)"),
    "names_in_names": '$sht(a=>one) = "two"; $sht(a=>two) = "three"; $sht(a=>$sht(a=>$sht(a=>one))) = 9;'
    + saw("$sht(a=>$sht(a=>one))", "$sht(a=>three)", "$(sht(a=>$sht(a=>two)){s.len})"),
    "increments": """
        $var(x) = $shtinc(b=>n); $var(y) = $shtinc(b=>n); $var(z) = $shtdec(b=>n);
        $sht(a=>text) = "5"; $sht(a=>n) = 5;
    """
    + saw("$var(x) $var(y) $var(z)", "$shtinc(a=>none)", "$sht(a=>none)", "$shtinc(a=>text)", "$shtdec(a=>n)")
    + saw("$sht(a=>n)", "$sht(a=>text)", "$sht(b=>n)"),
    "increments_in_a_condition": """
        if ($shtinc(b=>n) == 11 && $shtinc(b=>n) == 99 && $shtinc(b=>n)) exit;
        if ($shtinc(b=>n) > 100 || $shtinc(b=>n) == 14) $var(o) = "yes";
    """
    + saw("$sht(b=>n)"),
    "large_numbers": "$sht(a=>n) = 9007199254740993; $var(x) = $shtinc(a=>n);" + saw("$var(x)", "$sht(a=>n)"),
    "counting": FILL
    + saw("$shtcn(c=>**)", "$shtcn(c=>%~a)", "$shtcn(c=>~%b)", "$shtcn(c=>^a)", "$shtcv(c=>==v1)", "$shtcv(c=>eq7)")
    + saw("$shtcv(c=>**)", "$shtcv(c=>v)", "$shtcn(d=>**)"),
    "looking_for": FILL
    + """
        if (sht_has_name("c", "eq", "ab")) $var(o) = $var(o) + "1"; if (sht_has_name("c", "re", "^z")) $var(o) = "no";
        if (sht_match_name("c", "sw", "nu")) $var(o) = $var(o) + "2"; if (sht_has_name("x", "eq", "ab")) $var(o) = "no";
        if (sht_has_str_value("c", "ew", "2")) $var(o) = $var(o) + "3";
        if (sht_has_str_value("c", "eq", "7")) $var(o) = "no";
    """,
    "deleting": FILL
    + """
        sht_rm("c", "num"); $var(r) = $rc; sht_rm("c", "none"); $var(s) = $rc;
        sht_rm_name_re("c=>^n2"); $var(t) = $rc; sht_rm_value_re("c=>^v2$"); sht_rm("none", "k"); $var(u) = $rc;
    """
    + saw("$var(r) $var(s) $var(t) $var(u)", "$shtcn(c=>**)")
    + saw("$sht(c=>num)", "$sht(c=>n2)", "$sht(c=>ab)", "$sht(c=>aa)"),
    "deleting_by_name_and_value": FILL
    + 'sht_rm_name("c", "sw", "a"); sht_rm_value("c", "eq", "v1"); sht_rm_value("c", "eq", "9");'
    + saw("$shtcn(c=>**)", "$sht(c=>aa)", "$sht(c=>bb)", "$sht(c=>n2)"),
    "reset": FILL + 'sht_reset("c"); $var(r) = $rc;' + saw("$var(r)", "$shtcn(c=>**)", "$sht(a=>aa)"),
    "walking": FILL + WALK + saw("$var(n)", "$var(sum)", "$var(texts)", "$shtitkey(i)", "$shtitval(i)"),
    "changing_while_walking": """
        $sht(c=>k) = "old"; $sht(c=>l) = 3;
        sht_iterator_start("i", "c");
        while (sht_iterator_next("i")) {
            if ($shtitkey(i) == "k") { sht_iterator_sets("i", "new"); $var(s) = $_s($shtitval(i)); }
            else { sht_iterator_seti("i", 4); $var(i) = $shtitval(i); }
            sht_iterator_setex("i", 7);
        }
        sht_iterator_end("i");
        if (!sht_iterator_next("i")) $var(o) = "ended";
    """
    + saw("$var(s) $var(i)", "$sht(c=>k)", "$sht(c=>l)", "$shtex(c=>k)", "$shtex(c=>l)"),
    "deleting_while_walking": """
        $sht(c=>k) = 1; $sht(c=>l) = 2; $sht(c=>m) = 3;
        sht_iterator_start("i", "c"); sht_iterator_next("i");
        sht_iterator_rm("i"); $var(r) = $rc; sht_iterator_rm("i"); $var(s) = $rc; sht_iterator_rm("i"); $var(t) = $rc;
    """
    + saw("$var(r) $var(s) $var(t)", "$shtcn(c=>**)"),
    "moments": """
        $sht(c=>k) = 1; $sht(d=>k) = 1; $sht(a=>k) = 1;
        $var(x) = $shtex(c=>k); $shtex(c=>k) = 7; $var(y) = $shtex(c=>k); $shtex(c=>k) = 0;
        $shtex(d=>k) = 50; $sht(d=>k) = 2; $shtex(a=>k) = 5;
    """
    + saw("$var(x) $var(y)", "$shtex(c=>k)", "$shtex(d=>k)", "$shtex(a=>k)", "$shtex(c=>none)", "$sht(d=>k)"),
    "moments_and_increments": """
        $sht(c=>n) = 1; $shtex(c=>n) = 7; $var(x) = $shtinc(c=>n); $sht(d=>n) = 1; $shtex(d=>n) = 7;
        $var(y) = $shtinc(d=>n);
    """
    + saw("$var(x) $var(y)", "$shtex(c=>n)", "$shtex(d=>n)"),
    "moments_of_their_own": """
        sht_setxs("a", "k", "text", "30"); $var(r) = $rc;
        sht_setxi("a", "l", "5", "0"); sht_setxi("none", "l", "5", "0");
    """
    + saw("$var(r) $rc", "$sht(a=>k)", "$sht(a=>l)", "$shtex(a=>k)", "$shtex(a=>l)"),
    "odd_keys": """
        $sht(a=>with space) = 1; $sht(a=>*) = 2; $sht(a=>x:y:z) = 3; $sht(a=>ключ) = 4;
    """
    + saw("$sht(a=>with space)", "$sht(a=>*)", "$sht(a=>x:y:z)", "$sht(a=>ключ)", "$shtcn(a=>**)"),
    "locks": """
        if (sht_lock("a=>k")) $var(o) = $var(o) + "1"; if (sht_lock("a=>k")) $var(o) = $var(o) + "2";
        if (sht_lock("a=>l")) $var(o) = $var(o) + "3"; if (!sht_lock("none=>k")) $var(o) = $var(o) + "4";
        sht_unlock("a=>k"); sht_unlock("a=>k"); sht_unlock("a=>l");
        $sht(a=>k) = 1;
    """
    + saw("$shtcn(a=>**)"),
    "a_switch": '$sht(a=>s) = "gold"; switch ($sht(a=>s)) { case "silver": $var(o) = "no"; break; '
    'case "gold": $var(o) = $_s($sht(a=>s)!); }',
    "a_loop": "$sht(a=>n) = 0; while ($sht(a=>n) < 5) { $sht(a=>n) = $sht(a=>n) + 1; }" + saw("$sht(a=>n)"),
    "a_route_by_name": '$sht(a=>r) = "NAMED"; route($sht(a=>r)); ' + saw("$rc"),
    "arguments": """
        $sht(a=>x) = "text"; $sht(a=>p) = "{'a': 1}";
        if (pv_isset("$sht(a=>x)")) $var(o) = $var(o) + "1"; if (!pv_isset("$sht(a=>none)")) $var(o) = $var(o) + "2";
        if (not_empty("$sht(a=>x)")) $var(o) = $var(o) + "3"; pv_unset("$sht(a=>x)");
        xlog("L_DBG", "$shtinc(b=>logged)");
    """
    + saw("$sht(a=>x)"),
}


def script(store: str, modules: str = "", ready: str = "") -> str:
    """Return a script that runs the body that the request's user names, on tables in a store."""
    tables = "\n".join(f'modparam("htable", "htable", "{table}")' for table in TABLES)
    cases = "\n".join(f'    if ($rU == "{name}") {{ {body} }}' for name, body in BODIES.items())
    return f"""#!KAMAILIO
loadmodule "tm.so" loadmodule "sl.so" loadmodule "pv.so" loadmodule "xlog.so" loadmodule "htable.so" {modules}
{tables}
modparam("htable", "store", "{store}")
request_route {{
    if ($rU == "ready") {{ sl_send_reply("200", "Ready"); exit; }}
    $var(o) = "";
    {ready}
{cases}
    sl_send_reply("200", "$var(o)");
}}
route[NAMED] {{ return 7; }}
"""
