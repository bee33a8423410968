"""Files of strangers: some of the attacks in attacks_strangers.py, and texts that Hypothesis makes in any place."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .attack import Attack, chosen
from .attacks_bundles import CASES as BUNDLES
from .attacks_bundles import bundle
from .attacks_strangers import CASES, EVIL, OF_VERDICTS, PLACES, Set, try_text
from .project import module
from .strangers import check_csv, check_files, check_html, check_latex, check_markdown, check_printable

printing = module("samebits.engine.printing")
TEXTS = ("a text in a record", "a text in a verdict")
FEW = [case for case in CASES if case.kind not in TEXTS]
FEW += [case for number, case in enumerate(each for each in CASES if each.kind in TEXTS) if number % 37 == 0]
PIECES = st.lists(st.one_of(st.sampled_from(sorted(EVIL.values(), key=len)[:-1]), st.text(max_size=20)), max_size=4)
TEXT = PIECES.map("".join)
IN_PLACES = st.sampled_from([(put, None) for put in PLACES.values()] + [(None, put) for put in OF_VERDICTS.values()])


@pytest.mark.parametrize("case", chosen([*FEW, *BUNDLES], [*CASES, *BUNDLES]), ids=str)
def test_an_attack_fails(case: Attack, tmp_path: Path) -> None:
    case.check(tmp_path)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(place=IN_PLACES, text=TEXT)
def test_a_text_is_a_text_wherever_it_stands(place: tuple[Set | None, Set | None], text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try_text(*place, text, Path(folder))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(text=st.one_of(TEXT, st.text()))
def test_what_is_written_of_a_text(text: str) -> None:
    check_printable(printing.printable(text, lines=True).replace("\t", ""))
    assert "\n" not in printing.printable(text) and len(printing.printable(text)) == len(text)
    for written in (printing.markdown(text), f"- {printing.code(text)}", f"| a |\n|---|\n| {printing.code(text)} |"):
        check_markdown(written)
    assert len(f"| a |\n|---|\n| {printing.code(text)} |".splitlines()) == 3


def test_what_is_fine_stays_as_it_is() -> None:
    for text in ("naïve 数字 ±0.5 → 👩‍🔬 می‌خواهم", "val/loss of cnn-lr=0.001_x", "make train ARGS='seed=3 x=1'"):
        assert printing.printable(text) == text == printing.markdown(text)
        assert printing.code(text) == f"`{text}`"
    assert [printing.cell(each) for each in (-1.5, "-1.5e-07", "=1", "a-b", None)] == [
        -1.5,
        "-1.5e-07",
        "'=1",
        "a-b",
        None,
    ]


@pytest.mark.parametrize("kind", [".html", ".md", ".csv", ".tex"])
def test_the_checks_see_what_they_are_for(kind: str) -> None:
    policy = '<meta http-equiv="Content-Security-Policy"><style></style>'
    bad = {
        ".html": (check_html, [f"{policy}<script>", f'{policy}<a href="javascript:x">', "\x1b", "<p onclick=x>"]),
        ".md": (check_markdown, ["<b>", "[x](javascript:y)", "![x](y)", "[a]\n\n[a]: javascript:b", "\u202e"]),
        ".csv": (check_csv, ["a,=1", "@x", " +1+1", "\x1b"]),
        ".tex": (check_latex, [r"\input{x}", "a $x$", "50 % of", "\x07"]),
    }[kind]
    for text in bad[1]:
        with pytest.raises((AssertionError, ValueError)):
            bad[0](text)
    check_files({})


@pytest.mark.parametrize(
    ("where", "name", "instead", "place", "what"),
    [
        ("samebits.engine.printing", "category", lambda character: "Lu", "remark", "escape sequences"),
        ("samebits.engine.printing", "printable", lambda value, lines=False: str(value), "metric", "another direction"),
        ("samebits.report.documents", "markdown", str, "title", "HTML"),
        ("samebits.report.documents", "code", lambda value: f"`{value}`", "network", "Markdown that ends code"),
        ("samebits.report.documents", "WEB", re.compile(".*"), "address", "a script's address"),
        ("samebits.engine.printing", "FORMULA", re.compile("(?!)"), "metric", "a formula"),
    ],
)
def test_without_its_mechanism_an_attack_succeeds(
    where: str, name: str, instead: object, place: str, what: str, tmp_path: Path
) -> None:
    with mock.patch.object(module(where), name, instead), pytest.raises(AssertionError):
        try_text(PLACES[place], None, EVIL[what], tmp_path)


@pytest.mark.parametrize("name", ["a link to /etc", "name 'evil.'", "name .git/config", "'a' and 'A'"])
def test_without_a_look_at_it_an_evil_bundle_is_unpacked(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module("samebits.bundle.unpack"), "_look_at", lambda path, entries: "project-run-12345678")
    (case,) = (case for case in BUNDLES if case.name == name)
    with pytest.raises(AssertionError):
        case.check(tmp_path)


def test_a_bundle_is_unpacked_where_no_project_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    module("samebits.cli").main(["unpack", str(bundle(tmp_path / "x.zip"))])
    assert "nothing of it was run" in capsys.readouterr().out
    assert (tmp_path / "project-run-12345678/src/train.py").read_text() == "x = 1\n"
    with pytest.raises(SystemExit, match="2"):
        module("samebits.cli").main(["unpack", str(tmp_path / "x.zip")])
    assert "is there already" in capsys.readouterr().err
