"""The legacy commands do what their transcripts say on the real services too."""

from pathlib import Path

import pytest

from support.legacy_stage import LegacyStage, can_be_given
from support.transcripts import GOLDEN, compare, play, read, transcripts


def playable() -> list[Path]:
    """The transcripts whose state can be made on the real services."""
    return [path for path in transcripts() if can_be_given([line for step in read(path) for line in step.given])]


@pytest.mark.parametrize("path", playable(), ids=lambda path: str(path.relative_to(GOLDEN).with_suffix("")))
async def test_a_command_does_what_its_transcript_says(path: Path, stage: LegacyStage) -> None:
    compare(path, await play(path, stage.stage()))
