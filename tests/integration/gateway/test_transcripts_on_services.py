"""The legacy commands do what their transcripts say on the real services too; one that is refused changes no row.

Every transcript is played on fakes, too (tests/unit/gateway): here, one in three is part of `make test`, the rest of the
faults.
"""

from pathlib import Path

import pytest

from support.legacy_stage import LegacyStage, can_be_given
from support.transcripts import GOLDEN, compare, play, read, transcripts


def playable() -> list[Path]:
    """The transcripts whose state can be made on the real services."""
    return [path for path in transcripts() if can_be_given([line for step in read(path) for line in step.given])]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path,
            marks=[pytest.mark.faults] if number % 3 else [],
            id=str(path.relative_to(GOLDEN).with_suffix("")),
        )
        for number, path in enumerate(playable())
    ],
)
async def test_a_command_does_what_its_transcript_says_and_changes_no_row_when_it_is_refused(
    path: Path, stage: LegacyStage
) -> None:
    played = await play(path, stage.stage())
    compare(path, played)
    assert stage.refused == sum(line in {"= 1", "= 2"} for line in played.splitlines())
