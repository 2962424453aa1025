"""What the README says is tried: examples are the files, programs run; files that any page names exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *(ROOT / "docs").glob("*.md")]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(path: Path, language: str) -> list[str]:
    return [text for name, text in BLOCK.findall(path.read_text()) if name == language]


def run(text: str, tmp_path: Path, *, as_test: bool = False) -> str:
    program = tmp_path / "test_program.py"
    program.write_text(text)
    how = ["-m", "pytest", "-q", "-p", "no:cacheprovider"] if as_test else []
    done = subprocess.run(
        [sys.executable, *how, str(program)], capture_output=True, text=True, check=False, cwd=ROOT, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_first_script_is_the_example_and_has_ten_lines() -> None:
    text = (ROOT / "examples/first.cfg").read_text()
    assert text.count("\n") == 10
    assert f"```\n{text}```\n" in README.read_text()


def test_the_first_service_is_the_example() -> None:
    assert blocks(README, "python")[0] == (ROOT / "examples/first_service.py").read_text()


def test_the_tests_of_the_first_script_pass(tmp_path: Path) -> None:
    run(blocks(README, "python")[1], tmp_path, as_test=True)


def test_the_program_with_the_library_prints_what_the_readme_says(tmp_path: Path) -> None:
    program = blocks(README, "python")[2]
    # Another program may have the port that the README names.
    free = "import socket; one = socket.socket(); one.bind(('127.0.0.1', 0)); print(one.getsockname()[1])"
    port = run(free, tmp_path).strip()
    assert run(program.replace("9999", port), tmp_path) == "0.25\n1 division by zero\n"


@pytest.mark.parametrize("path", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda path: path.name)
def test_files_that_are_named_exist(path: Path) -> None:
    text = path.read_text()
    places = [ROOT, ROOT / "src/sipwright", ROOT / "docs"]
    for name in re.findall(r"`((?:\w[\w.-]*/)+[\w-]+\.(?:py|cfg|md))\b", text):
        assert any((place / name).exists() for place in places), f"{path.name} names {name}"
    for name in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (path.parent / name).exists(), f"{path.name} links to {name}"
