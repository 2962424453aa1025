from __future__ import annotations

from sipwright.cli.ladder import ASCII, Arrow, Note, Style, draw


def test_arrows_go_from_one_line_to_another_with_their_times() -> None:
    steps = [Arrow(0.0, 0, 1, "ask"), Arrow(12.34, 1, 0, "answer")]
    assert draw(["a", "b"], steps, Style(width=40)) == [
        "            a                   b",
        "            │                   │",
        "    0.0 ms  │─ ask ────────────▶│",
        "   12.3 ms  │◀ answer ──────────│",
        "            │                   │",
    ]


def test_an_arrow_past_a_party_crosses_its_line() -> None:
    lines = draw(["a", "b", "c"], [Arrow(0.0, 0, 2, "x"), Arrow(0.0, 2, 0, "y")], Style(width=40))
    assert lines[2] == "    0.0 ms  │─ x ─────┼────────▶│"
    assert lines[3] == "    0.0 ms  │◀ y ─────┼─────────│"


def test_a_party_that_waits_has_a_dashed_line_and_one_that_is_gone_has_none() -> None:
    steps = [Note(0.0, 0, "waits", "dashed"), Note(1.0, 1, "dies", "gone"), Note(2.0, 0, "goes on", "solid")]
    assert [line[12:] for line in draw(["a", "b"], steps, Style(width=40))[2:]] == [
        "┆ waits             │",
        "┆                     dies",
        "│ goes on",
        "│",
    ]


def test_a_long_text_of_an_arrow_is_cut_and_that_of_a_note_goes_on_below() -> None:
    lines = draw(["a", "b"], [Arrow(0.0, 0, 1, "x" * 30), Note(0.0, 1, "y" * 14)], Style(width=40))
    assert lines[2] == f"    0.0 ms  │─ {'x' * 14}… ▶│"
    assert [line[32:] for line in lines[3:5]] == ["│ yyyyyy", "│ yyyyyy"]


def test_in_ascii_nothing_else_is_used() -> None:
    steps: list[Arrow | Note] = [
        Arrow(0.0, 0, 1, "ask" * 20),
        Note(0.0, 0, "waits", "dashed"),
        Arrow(0.0, 1, 0, "answer"),
    ]
    assert all(line.isascii() for line in draw(["a", "b"], steps, ASCII))


def test_colours_are_escapes_around_the_step() -> None:
    line = draw(["a", "b"], [Arrow(0.0, 0, 1, "ask", "sip")], Style(width=40, colours=True))[2]
    assert line == "\x1b[2m    0.0 ms\x1b[0m  │\x1b[36m─ ask ────────────▶\x1b[0m│"
