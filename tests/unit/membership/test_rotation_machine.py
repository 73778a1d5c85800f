"""The rules of rotations: what each phase waits for, who is quarantined by itself, what can be rolled back."""

from dataclasses import replace

import pytest

from keyreeve_membership.authorities.ports import KeyType
from keyreeve_membership.rotations import machine
from keyreeve_membership.rotations.machine import Progress
from keyreeve_membership.rotations.ports import Phase, Rotation, RotationKind

ROTATION = Rotation(
    "r",
    "web",
    RotationKind.SCHEDULED,
    Phase.DISTRIBUTED,
    1,
    "old",
    "new",
    "u0",
    "u0",
    KeyType.P256,
    epoch=2,
    final_epoch=0,
    was_activated=False,
    phase_seconds=0,
    deadline=0,
    operation_id="r",
    old_certificates_waived=False,
    old_certificates=0,
    creator="ann",
    created_at=0,
    updated_at=0,
)


def member(number: int = 0, **changed: object) -> Progress:
    made = Progress(
        f"u{number}",
        f"m{number}.test",
        primary=number == 0,
        acknowledged=2,
        checked=True,
        waived=False,
        presents="old",
        loaded=2,
    )
    return replace(made, **changed)  # type: ignore[arg-type]


def texts(rotation: Rotation, *members: Progress, secured: bool = True) -> list[str]:
    return [one.what for one in machine.waits(rotation, members, secured=secured)]


def test_a_statement_alone_does_not_activate_unless_it_is_waived() -> None:
    assert texts(ROTATION, member()) == []
    assert texts(ROTATION, member(acknowledged=1)) == ["load epoch 2"]
    assert texts(ROTATION, member(checked=False)) == ["answer a check of its peer port"]
    assert texts(ROTATION, member(checked=False, waived=True)) == []
    assert texts(ROTATION, member(acknowledged=1, waived=True)) == ["load epoch 2"]
    assert texts(ROTATION, member(checked=False), secured=False) == []


def test_how_a_check_failed_is_said_while_that_is_what_it_waits_for_and_not_later() -> None:
    problem = "answer on its peer port: UNAVAILABLE"
    said = {
        machine.told(*texts(ROTATION, one), problem)
        for one in (member(checked=False), member(checked=False, acknowledged=1), member(checked=False, cloned=True))
    }
    assert said == {problem, "load epoch 2", "run once: two boots of it report in turn"}
    assert machine.told(*texts(ROTATION, member(checked=False)), "") == "answer a check of its peer port"
    assert machine.told("", problem) == ""


def test_the_old_ca_is_needed_while_a_member_presents_it() -> None:
    for phase in (Phase.ACTIVATED, Phase.REISSUED):
        rotation = replace(ROTATION, phase=phase)
        assert texts(rotation, member(presents="new")) == []
        assert texts(rotation, member(), member(1, presents="new")) == ["use a certificate of new"]
        assert texts(rotation, member(presents="")) == ["use a certificate of new"]


def test_a_roll_back_waits_only_for_members_that_use_the_new_ca() -> None:
    rotation = replace(ROTATION, phase=Phase.ROLLED_BACK, was_activated=True)
    assert texts(rotation, member(), member(1, presents="new")) == ["use a certificate of old"]
    assert texts(replace(rotation, was_activated=False), member(presents="new")) == []
    assert texts(replace(rotation, final_epoch=3), member()) == ["load epoch 3"]
    assert texts(replace(rotation, final_epoch=3), member(presents="new")) == ["use a certificate of old"]


def test_a_roll_back_does_not_wait_for_a_member_that_never_loaded_the_new_ca() -> None:
    rotation = replace(ROTATION, phase=Phase.ROLLED_BACK, final_epoch=3)
    assert texts(rotation, member(acknowledged=0, loaded=0), member(1, acknowledged=1, loaded=1)) == []
    restarted = member(acknowledged=0, loaded=2)
    assert texts(rotation, restarted) == ["load epoch 3"], "what it loaded before it started again is on its disk"
    assert texts(rotation, member(acknowledged=3, loaded=3)) == []


def test_a_roll_back_does_not_wait_for_a_waived_member() -> None:
    rotation = replace(ROTATION, phase=Phase.ROLLED_BACK, was_activated=True)
    for final_epoch in (0, 3):
        assert texts(replace(rotation, final_epoch=final_epoch), member(presents="new", waived=True)) == []


def test_a_member_can_be_waived_longer_than_old_certificates() -> None:
    rolled_back = replace(ROTATION, phase=Phase.ROLLED_BACK)
    assert machine.may_waive(rolled_back, of_member=True)
    assert not machine.may_waive(rolled_back, of_member=False)
    assert not machine.may_waive(replace(rolled_back, ended_at=1), of_member=True)
    assert not machine.may_waive(replace(ROTATION, phase=Phase.DISTRUSTED), of_member=True)
    assert machine.may_waive(ROTATION, of_member=False)


def test_a_cloned_member_holds_every_phase() -> None:
    for phase in (Phase.DISTRIBUTED, Phase.ACTIVATED, Phase.REISSUED, Phase.DISTRUSTED, Phase.ROLLED_BACK):
        rotation = replace(ROTATION, phase=phase)
        assert "two boots" in texts(rotation, member(presents="new", cloned=True))[0]


@pytest.mark.parametrize(
    ("members", "late", "before", "expected"), [(3, 1, 0, 1), (3, 2, 0, 0), (40, 2, 0, 2), (40, 3, 0, 0)]
)
def test_automatic_quarantine_never_exceeds_one_or_five_percent(
    members: int, late: int, before: int, expected: int
) -> None:
    rotation = replace(ROTATION, kind=RotationKind.EMERGENCY, phase_seconds=60, deadline=100)
    everyone = [member(i, acknowledged=1 if 0 < i <= late else 2) for i in range(members)]
    waiting = machine.waits(rotation, everyone, secured=True)
    assert len(waiting) == late
    assert machine.to_quarantine(rotation, waiting, everyone, quarantined=before, now=99) == []
    found = machine.to_quarantine(rotation, waiting, everyone, quarantined=before, now=100)
    assert len(found) == expected
    scheduled = replace(rotation, kind=RotationKind.SCHEDULED)
    assert machine.to_quarantine(scheduled, waiting, everyone, quarantined=before, now=100) == []


def test_those_quarantined_before_count_and_the_primary_is_never_among_them() -> None:
    rotation = replace(ROTATION, kind=RotationKind.EMERGENCY, phase_seconds=60, deadline=100)
    everyone = [member(0), member(1, acknowledged=1), member(2)]
    waiting = machine.waits(rotation, everyone, secured=True)
    assert machine.to_quarantine(rotation, waiting, everyone, quarantined=1, now=100) == []
    everyone = [member(0, acknowledged=1), member(1)]
    waiting = machine.waits(rotation, everyone, secured=True)
    assert machine.to_quarantine(rotation, waiting, everyone, quarantined=0, now=100) == []


def test_a_rotation_is_rolled_back_until_the_old_ca_is_distrusted() -> None:
    for phase in Phase:
        expected = phase not in {Phase.DISTRUSTED, Phase.ROLLED_BACK}
        assert machine.may_roll_back(replace(ROTATION, phase=phase)) is expected
    assert not machine.may_roll_back(replace(ROTATION, ended_at=1))


def test_each_phase_of_an_emergency_has_its_own_time() -> None:
    rotation = replace(ROTATION, kind=RotationKind.EMERGENCY, phase_seconds=60, deadline=100)
    followed = machine.enter_phase(rotation, Phase.ACTIVATED, 500)
    assert (followed.step, followed.deadline, followed.was_activated) == (2, 560, True)
