"""Rules for claims, keys and renewals, against a model that handles one request at a time."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from keyreeve_ca.ledger.commit_rules import Key, Settlement
from keyreeve_ca.ledger.wire import (
    ANSWERED,
    BINDS_KEY,
    COMMITTED,
    FIELDS,
    IDENTITY,
    RENEWS,
    SERIAL,
    SPKI,
    RequestTuple,
)


@dataclass
class Memory:
    """`conflict_resolution.Steps` in dictionaries."""

    requests: dict[Key, tuple[bytes, bytes | None]] = field(default_factory=dict)
    keys: dict[bytes, str] = field(default_factory=dict)
    renewals: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)

    def blocked(self, spkis: Collection[bytes]) -> Collection[bytes]:
        return ()

    def claim(self, rows: Sequence[tuple[str, str, str, bytes, bytes]]) -> int:
        return self._insert(self.requests, [(row[:3], row[3:]) for row in rows])

    def claims(self, keys: Collection[Key]) -> dict[Key, tuple[bytes, bytes | None]]:
        return {key: self.requests[key] for key in keys}

    def correct(self, rows: Sequence[tuple[Key, bytes | None]]) -> None:
        for key, items in rows:
            if items is None:
                del self.requests[key]
            else:
                self.requests[key] = (self.requests[key][0], items)

    def bind(self, rows: Sequence[tuple[bytes, str]]) -> int:
        return self._insert(self.keys, rows)

    def bound(self, spkis: Collection[bytes]) -> dict[bytes, str]:
        return {spki: self.keys[spki] for spki in spkis}

    def renew(self, rows: Sequence[tuple[bytes, bytes, bytes]]) -> int:
        return self._insert(self.renewals, [(row[0], row[1:]) for row in rows])

    def renewed(self, predecessors: Collection[bytes]) -> dict[bytes, tuple[bytes, bytes]]:
        return {p: self.renewals[p] for p in predecessors}

    def withdraw_renewals(self, predecessors: Collection[bytes]) -> None:
        for predecessor in predecessors:
            del self.renewals[predecessor]

    @staticmethod
    def _insert(table: dict[Any, Any], rows: Sequence[tuple[Any, Any]]) -> int:
        assert list(rows) == sorted(rows), "rows go in sorted, or two transactions may wait for each other"
        new = [(key, value) for key, value in rows if key not in table]
        table.update(new)
        return len(new)


def certificate(serial: int, key: int, identity: str, renews: int | None, *, binds: bool) -> tuple[Any, ...]:
    values: dict[str, Any] = dict.fromkeys(FIELDS, "")
    values |= {
        "serial": serial.to_bytes(16, "big"),
        "spki_sha256": bytes([key]) * 32,
        "identity": identity,
        "renews": None if renews is None else renews.to_bytes(16, "big"),
        "binds_key": binds,
    }
    return tuple(values.values())


requested_extensions = st.tuples(
    st.integers(1, 3), st.sampled_from("ab"), st.none() | st.integers(1000, 1002), st.booleans(), st.booleans()
)
requests = st.tuples(
    st.integers(1, 4), st.sampled_from([b"h", b"g"]), st.lists(requested_extensions, min_size=1, max_size=3)
)
groups = st.lists(st.lists(requests, min_size=1, max_size=4), min_size=1, max_size=3)


def made(group: list[Any], start: int) -> list[RequestTuple]:
    """Requests with serial numbers from `start` on; one that should fail becomes a failure."""
    counter = iter(range(start, start + 1000))
    return [
        RequestTuple(
            "caller",
            "method",
            f"id-{number}",
            payload,
            tuple(
                ("NAME_REFUSED", "no", {}) if fails else certificate(next(counter), key, identity, renews, binds=binds)
                for key, identity, renews, binds, fails in wanted
            ),
        )
        for number, payload, wanted in group
    ]


@given(groups)
def test_whatever_arrives_the_ledger_stays_sound(drawn: list[list[Any]]) -> None:
    memory = Memory()
    stored: dict[bytes, tuple[Any, ...]] = {}
    for number, group in enumerate(drawn):
        arrived = made(group, 1 + 1000 * (number + 5))
        settlement = Settlement(arrived, memory)
        for row in settlement.certificates:
            assert row[SERIAL] not in stored
            stored[row[SERIAL]] = row
        for request, outcome in zip(arrived, settlement.outcomes(), strict=True):
            check_outcome(request, outcome, memory, stored)
    bound = [row for row in stored.values() if row[BINDS_KEY]]
    assert all(memory.keys[row[SPKI]] == row[IDENTITY] for row in bound)
    renewing = [row for row in stored.values() if row[RENEWS] is not None]
    assert {row[RENEWS]: (row[SERIAL], row[SPKI]) for row in renewing} == memory.renewals
    assert len(renewing) == len(memory.renewals)


def check_outcome(
    request: RequestTuple, outcome: tuple[Any, ...], memory: Memory, stored: dict[bytes, tuple[Any, ...]]
) -> None:
    results = outcome[-1]
    serials = [r for r in results if isinstance(r, bytes)]
    assert all(s in stored for s in serials), "an answer names no certificate that is not stored"
    if outcome[0] == ANSWERED:
        return
    assert outcome[0] == COMMITTED
    assert len(results) == len(request.items)
    for item, result in zip(request.items, results, strict=True):
        if isinstance(result, bytes) and result != item[SERIAL]:
            assert stored[result][SPKI] == item[SPKI]
            assert stored[result][RENEWS] == item[RENEWS]
    assert (request.key in memory.requests) >= bool(serials), "what was answered with a certificate is claimed"


@given(requests)
def test_a_repeat_of_a_request_is_answered_as_the_first_was(drawn: Any) -> None:
    memory = Memory()
    [first] = Settlement(made([drawn], 10_000), memory).outcomes()
    repeat = Settlement(made([drawn], 20_000), memory)
    [second] = repeat.outcomes()
    if any(isinstance(r, bytes) for r in first[1]):
        assert second == (ANSWERED, drawn[1], first[1])
        assert repeat.certificates == []
