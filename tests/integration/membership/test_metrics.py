"""What the metrics show of the roll and of waiting operations, on both databases."""

from datetime import timedelta

from keyreeve.membership_values import RotationKind, RotationPhase
from keyreeve_chassis.operations.values import waiting_values
from keyreeve_membership.metrics import read_values
from keyreeve_membership.rotations.service import START
from support.membership import RunningMembership


async def test_metrics_show_members_epochs_clocks_and_whom_a_rotation_waits_for(membership: RunningMembership) -> None:
    one, two = await membership.array_of("one.example.test", "two.example.test")
    two.skew = timedelta(seconds=-40)
    await two.report()
    array = one.array.removeprefix("arrays/")

    values = await membership.read(read_values)

    epoch = values.epochs[array,]
    assert values.members == {(array, "member"): 2}
    assert values.acknowledged == {(array, str(int(epoch))): 2}
    assert set(values.reported) == {(array, one.name), (array, two.name)}
    assert abs(values.clocks[array, one.name]) < 5
    assert -45 < values.clocks[array, two.name] < -35

    two.skew = timedelta()
    await two.report()
    admin = (await membership.client()).membership
    started = await admin.rotations.start(one.array, RotationKind.SCHEDULED)
    while (await admin.rotations.get(started.name)).phase is not RotationPhase.DISTRIBUTED:
        await one.turn()
    operations = await membership.read(lambda tx: tx.operations.running())
    while not (waiting := waiting_values(operations)):
        operations = await membership.read(lambda tx: tx.operations.running())
    operation = started.operation.removeprefix("operations/")
    assert (START, operation, two.resource) in waiting
