"""Scheduling of operations: methods alternate, the oldest first, and waiting operations let others run."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from keyreeve_chassis.operations.ports import Operation, OperationState, Waiting
from keyreeve_chassis.operations.schedule import Schedule

WAITING = (Waiting("members/web-1", "restart", 1_000),)


@dataclass
class Clock:
    seconds: float = 100.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Scheduled:
    """A schedule, and the operations that run."""

    running: list[Operation]
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.schedule = Schedule(self.clock)

    def serve(self, rests: float = 0.0) -> str | None:
        """The operation that has a step now, after which its method rests."""
        picked = self.schedule.pick(self.running)
        if picked is None:
            return None
        self.schedule.rest(picked, rests)
        return picked.operation_id

    def served(self, count: int) -> str:
        return " ".join(self.serve() or "-" for _ in range(count))

    def change(self, operation_id: str, **changes: object) -> None:
        self.running = [
            replace(one, **changes) if one.operation_id == operation_id else one  # type: ignore[arg-type]
            for one in self.running
        ]


def operations(names: str) -> list[Operation]:
    """Operations named after their method and age, such as `a1 a2 b1`, in that order."""
    return [
        Operation(name, f"/x/{name[0]}", "", OperationState.RUNNING, "", {}, b"", 0, 0, 0, 0) for name in names.split()
    ]


def ids(found: Sequence[Operation]) -> list[str]:
    return [one.operation_id for one in found]


def test_methods_alternate_and_in_each_the_oldest_goes_first() -> None:
    scheduled = Scheduled(operations("a1 a2 a3 b1 c1"))
    assert scheduled.served(7) == "a1 b1 c1 a1 b1 c1 a1"
    scheduled.running = [one for one in scheduled.running if one.operation_id not in {"a1", "c1"}]
    assert scheduled.served(4) == "b1 a2 b1 a2"


def test_a_new_method_does_not_wait_for_a_round_of_the_others() -> None:
    scheduled = Scheduled(operations("a1 b1"))
    assert scheduled.served(3) == "a1 b1 a1"
    scheduled.running += operations("c1")
    assert scheduled.served(3) == "c1 b1 a1"


def test_a_method_rests_after_its_step_whichever_of_its_operations_it_was() -> None:
    scheduled = Scheduled(operations("a1 a2 b1"))
    assert scheduled.serve(rests=3.0) == "a1"
    scheduled.running = operations("a2 b1")
    assert (scheduled.serve(rests=1.0), scheduled.serve()) == ("b1", None)
    assert scheduled.schedule.seconds(scheduled.running) == 1.0
    scheduled.clock.seconds += 1.0
    assert (scheduled.serve(rests=9.0), scheduled.serve()) == ("b1", None)
    assert scheduled.schedule.seconds(scheduled.running) == 2.0
    scheduled.clock.seconds += 2.0
    assert scheduled.schedule.seconds(scheduled.running) == 0.0
    assert scheduled.serve() == "a2"


def test_an_operation_that_waits_lets_the_younger_ones_of_its_method_pass() -> None:
    scheduled = Scheduled(operations("a1 a2"))
    assert scheduled.serve(rests=5.0) == "a1"
    assert scheduled.serve() is None
    scheduled.change("a1", waiting=WAITING)
    assert scheduled.serve(rests=1.0) == "a2"
    assert scheduled.serve() is None, "a2 is not waiting: its method rests"
    scheduled.clock.seconds += 1.0
    assert scheduled.served(2) == "a2 a2"
    scheduled.clock.seconds += 4.0
    assert scheduled.serve(rests=5.0) == "a1", "it is looked at again, the oldest first"
    assert scheduled.serve() == "a2"


def test_what_is_to_be_cancelled_is_served_at_once() -> None:
    scheduled = Scheduled(operations("a1 a2"))
    scheduled.serve(rests=60.0)
    scheduled.change("a2", cancel_requested=True)
    assert scheduled.serve() == "a2"


def test_what_has_ended_is_forgotten() -> None:
    scheduled = Scheduled(operations("a1 b1"))
    scheduled.served(2)
    scheduled.schedule.forget(operations("b1"))
    assert set(scheduled.schedule._looked_at) == {"b1"}
