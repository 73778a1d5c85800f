"""Every block of code in README.md and docs/ is run by a test, or says why not."""

from pathlib import Path

import pytest

from support import documents


def test_every_block_is_run_or_says_why_not() -> None:
    assert [problem for page in documents.pages() for problem in documents.problems_of(page)] == []


@pytest.mark.parametrize(
    "text",
    [
        "```\nkeyreeve up\n```\n",
        "```console\nkeyreeve up\n```\n",
        "```sh no-run:\nkeyreeve up\n```\n",
        "```sh later\nkeyreeve up\n```\n",
        "Then:\n\n    keyreeve up\n",
    ],
)
def test_a_block_that_nobody_runs_is_found(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(text)
    assert len(documents.problems_of(page)) == 1


def test_a_block_has_its_language_its_reason_and_what_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n\n```sh\necho 1\n```\n\n```text\n1\n```\n\n```sh no-run: needs a cluster\nhelm test\n```\n"
    )
    first, printed, last = documents.blocks_of(page)
    assert (first.line, first.language, first.no_run, first.text, first.shown) == (3, "sh", "", "echo 1\n", "1\n")
    assert printed.language in documents.DATA
    assert (last.language, last.no_run) == ("sh", "needs a cluster")
    assert documents.problems_of(page) == []
