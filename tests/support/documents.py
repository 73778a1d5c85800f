"""The blocks of code in README.md and docs/: which are run, and which say why not.

`python -m support.documents` (in tests/) prints how many. A block that is not run has `no-run: REASON` after its language.
"""

import re
import sys
from collections import Counter
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN_BY = {
    "sh": "tests/e2e/test_documents.py",
    "python": "tests/e2e/test_documents.py",
    "go": "tests/e2e/test_other_languages.py",
    "js": "tests/e2e/test_other_languages.py",
    "java": "tests/e2e/test_other_languages.py",
}
"""The test that runs the blocks of a language."""
DATA = frozenset({"abnf", "haproxy", "ini", "json", "mermaid", "nginx", "text", "yaml"})
"""Languages of blocks that are no programs."""
_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(
    r"^ {4}(?:(?:\S*/)?keyreeve[\w-]* |make |python|openssl |curl |pip |from \w+ import |import )", re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """A fenced block; `shown` is the text block that follows it directly: what it prints."""

    page: Path
    line: int
    language: str
    no_run: str
    text: str
    shown: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """README.md, then the pages of docs/ by name."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks_of(page: Path) -> list[Block]:
    """Its blocks in order."""
    text = page.read_text()
    found = list(_FENCE.finditer(text))
    blocks = []
    for each, follower in zip_longest(found, found[1:]):
        language, _, rest = each["info"].strip().partition(" ")
        directly = follower is not None and not text[each.end() : follower.start()].strip()
        shown = follower["text"] if follower is not None and directly and follower["info"].strip() == "text" else ""
        line = text.count("\n", 0, each.start()) + 1
        blocks.append(Block(page, line, language, rest.removeprefix("no-run:").strip(), each["text"], shown))
    return blocks


def problems_of(page: Path) -> list[str]:
    """Blocks that nobody runs although they do not say why, one line each."""
    problems = []
    text = page.read_text()
    for each in blocks_of(page):
        info = text.splitlines()[each.line - 1].strip().removeprefix("```")
        if each.language not in RUN_BY and each.language not in DATA:
            problems.append(f"{each.place}: name a language of {', '.join(sorted(DATA | set(RUN_BY)))}")
        elif info != each.language and not re.fullmatch(r"\w+ no-run: \S.*", info):
            problems.append(f"{each.place}: `{info}` is not `{each.language} no-run: REASON`")
    outside = _FENCE.sub(lambda block: "\n" * block[0].count("\n"), text)
    for indented in _INDENTED.finditer(outside):
        line = outside.count("\n", 0, indented.start()) + 1
        problems.append(f"{page.relative_to(ROOT)}:{line}: put commands between ``` lines, so that they are run")
    return problems


def main() -> int:
    """Print how many blocks are run, and those that are not."""
    programs = [block for page in pages() for block in blocks_of(page) if block.language in RUN_BY]
    skipped = [block for block in programs if block.no_run]
    counted = Counter(RUN_BY[block.language] for block in programs if not block.no_run)
    for test, count in sorted(counted.items()):
        print(f"documents: {count} blocks are run by {test}")
    print(f"documents: {len(skipped)} blocks are not run")
    for block in skipped:
        print(f"  {block.place} ({block.language}): {block.no_run}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
