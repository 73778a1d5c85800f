"""Epochs: a member goes forward only."""

from dataclasses import replace
from pathlib import Path

import pytest

from keyreeve.errors import EpochDowngrade, EpochEquivocation, FileUnusable
from keyreeve_agent.material.epochs import SeenEpoch, walk_forward
from keyreeve_agent.material.seen_epochs import SeenEpochs
from support.agent_world import TestArrayCa, epoch_of

OLD, NEW = TestArrayCa.make(), TestArrayCa.make()
FIRST = epoch_of(1, OLD)
SECOND = epoch_of(2, OLD, NEW, before=FIRST)
THIRD = epoch_of(3, NEW, before=SECOND)


def test_a_member_that_slept_walks_forward_through_every_epoch() -> None:
    assert walk_forward(SeenEpoch.of(FIRST), [SECOND, THIRD])[-1] == SeenEpoch.of(THIRD)
    assert walk_forward(None, [THIRD]) == [SeenEpoch.of(THIRD)]
    assert walk_forward(SeenEpoch.of(THIRD), [THIRD]) == [SeenEpoch.of(THIRD)]


def test_a_lower_epoch_is_a_downgrade() -> None:
    with pytest.raises(EpochDowngrade) as refused:
        walk_forward(SeenEpoch.of(THIRD), [SECOND])
    assert refused.value.metadata == {"array": "arrays/one", "epoch": "2", "seen": "3"}
    with pytest.raises(EpochDowngrade):
        walk_forward(SeenEpoch.of(replace(FIRST, restore_generation=2)), [THIRD])


def test_an_epoch_after_a_restored_database_counts_although_its_number_is_lower() -> None:
    restored = replace(SECOND, restore_generation=2)
    assert walk_forward(SeenEpoch.of(THIRD), [restored])[-1].epoch == 2


@pytest.mark.parametrize(
    ("seen", "offered"),
    [
        (SECOND, epoch_of(2, NEW, before=FIRST)),
        (SECOND, epoch_of(3, NEW, before=FIRST)),
        (FIRST, THIRD),
        (FIRST, replace(SECOND, digest=FIRST.digest)),
        (FIRST, replace(SECOND, authorities=FIRST.authorities)),
    ],
)
def test_two_bundles_for_one_epoch_and_a_chain_that_is_broken_or_has_gaps_are_equivocation(seen, offered) -> None:
    with pytest.raises(EpochEquivocation):
        walk_forward(SeenEpoch.of(seen), [offered])


def test_the_highest_epoch_of_each_array_outlives_the_agent(tmp_path: Path) -> None:
    seen = SeenEpochs(tmp_path / "epochs.json")
    assert seen.of("arrays/one") is None
    seen.keep("arrays/one", SeenEpoch.of(SECOND))
    seen.keep("arrays/two", SeenEpoch.of(FIRST))
    assert SeenEpochs(tmp_path / "epochs.json").of("arrays/one") == SeenEpoch.of(SECOND)
    assert seen.of("arrays/two") == SeenEpoch.of(FIRST)


def test_a_file_that_cannot_be_read_does_not_count_as_nothing_seen(tmp_path: Path) -> None:
    path = tmp_path / "epochs.json"
    path.write_text("{")
    with pytest.raises(FileUnusable):
        SeenEpochs(path).of("arrays/one")
