"""The arithmetic of `make bench`: rounds, ratios, goals, tables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import COMPARISONS, HERE
from bench.report import BEGIN, END, table, title, write_tables
from bench.rows import Row, number, spread, take_turns

UNPUBLISHED = ("closed_world", "serving")  # measured by itself so far; the next whole `make bench` puts it on the page
SLOWER = Row("a step", "ms", [2.0, 3.0, 9.0], "plain", [1.0, 2.0, 3.0], most=1.5)


def test_ways_take_turns_after_a_round_that_does_not_count() -> None:
    asked: list[str] = []

    def measure(way: str) -> float:
        asked.append(way)
        return float(len(asked))

    assert take_turns(measure, ("a", "b"), rounds=2) == {"a": [3.0, 5.0], "b": [4.0, 6.0]}
    assert asked == ["a", "b"] * 3


def test_a_ratio_is_that_of_one_round() -> None:
    assert SLOWER.ratios == [2.0, 1.5, 3.0]
    assert SLOWER.cells() == ["a step", "plain: 2 ms", "3 (2 to 9) ms", "2 (1.5 to 3)", "≤ 1.5", "no"]
    with pytest.raises(ValueError, match="zip"):
        _ = Row("lost a round", "s", [1.0], "other", [1.0, 2.0]).ratios


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (SLOWER, False),
        (Row("a", "s", [2.0], "b", [1.0], most=2.0), True),
        (Row("a", "samples/s", [2.0], "b", [4.0], least=0.5), True),
        (Row("a", "samples/s", [2.0], "b", [4.0], least=0.51), False),
        (Row("alone", "s", [1.0, 9.0, 2.0], most=2.0), True),
        (Row("alone", "s", [1.0, 9.0, 2.1], most=2.0), False),
        (Row("no goal", "s", [1.0]), None),
    ],
)
def test_a_goal_is_one_for_the_median(row: Row, met: bool | None) -> None:
    assert row.met is met


def test_numbers_are_written_with_three_digits_that_count() -> None:
    assert [number(each) for each in (1234.5, 99.96, 0.01234, 1.0)] == ["1,234", "100", "0.0123", "1"]
    assert spread([]) == "" and spread([2.0, 2.0]) == "2"


def test_tables_take_the_place_of_the_former_ones(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{BEGIN}\nformer\n{END}\nafter\n")
    for _ in range(2):
        write_tables(page, {"cores": 2}, {"throughput": [SLOWER]})
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "former" not in text
    assert text.count("| a step | plain: 2 ms | 3 (2 to 9) ms | 2 (1.5 to 3) | ≤ 1.5 | no |") == 1
    assert text.count(f"### {title('throughput')}\n") == 1


def test_words_of_make_bench_are_none_of_what_it_calls(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("inner:\n\t@echo given=$(ARGS)\n")
    code = "import pathlib, bench.project as p; print(p.Project(pathlib.Path('FOLDER')).run('make', 'inner'), end='')"
    (tmp_path / "outer.mk").write_text(f'outer:\n\t@{sys.executable} -c "{code.replace("FOLDER", str(tmp_path))}"\n')
    command = ["make", "--silent", "--file", str(tmp_path / "outer.mk"), "outer", "ARGS=throughput"]
    assert subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True).stdout == "given=\n"


def test_the_page_is_that_of_the_results() -> None:
    results = json.loads((HERE / "results.json").read_text())
    page = (HERE.parent / "docs/performance.md").read_text()
    assert (*results["rows"],) == tuple(name for name in COMPARISONS if name not in UNPUBLISHED)
    for name, described in results["rows"].items():
        rows = [Row(**{key: value for key, value in each.items() if key != "met"}) for each in described]
        assert rows and table(name, rows) in page
        assert [row.met for row in rows] == [each["met"] for each in described]
        assert all(len(row.values) >= 5 for row in rows if row.met is not None)
