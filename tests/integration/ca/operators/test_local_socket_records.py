"""Changes over the local admin socket: none without its audit record, which is of the same transaction."""

from collections.abc import Sequence
from typing import Any

import pytest

from keyreeve.errors import KeyreeveError
from keyreeve.keys import make_csr, make_key
from keyreeve_ca import local_admin
from keyreeve_chassis.audit.chains import ChainWriter
from support.running_ca import RunningCa, own_ca, quick_lint, unique
from support.waiting import wait_for

__all__ = ["own_ca", "quick_lint"]

ADDRESS = "127.0.0.1:1"
RECORDS = [
    b"keyreeve/local-socket/resume_issuance",
    b"keyreeve/local-socket/service_token",
    b"keyreeve/local-socket/recover",
    b"keyreeve/admit",
]


def changed(ca: RunningCa) -> tuple[object, ...]:
    """What the four acts change."""
    return ca.read(lambda tx: (tx.halt.state(), tx.tokens.page(after=b"", limit=100), tuple(tx.operators.active())))


def test_a_change_over_the_local_socket_whose_record_cannot_be_written_does_not_happen(
    own_ca: RunningCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, name = own_ca, unique("eva")
    socket = ca.settings.coordinator_socket
    ca.client().issuance.halt("for a test")
    acts = (
        lambda: local_admin.resume_issuance(socket, "a new installation"),
        lambda: local_admin.service_token(socket, "membership", unique("one"), ADDRESS),
        lambda: local_admin.recover(socket, name, ADDRESS),
        lambda: local_admin.first_operator(socket, name, make_csr(make_key())),
    )
    before, append = changed(ca), ChainWriter.append
    refused = set[bytes]()

    def refuse(writer: ChainWriter, cursor: Any, records: Sequence[bytes], *more: Any) -> Any:
        found = {act for act in RECORDS for record in records if act in record}
        refused.update(found)
        if found:
            raise OSError(28, "No space left on device")
        return append(writer, cursor, records, *more)

    monkeypatch.setattr(ChainWriter, "append", refuse)
    for act in acts:
        with pytest.raises(KeyreeveError):
            ca.run(act())
        assert changed(ca) == before
    assert refused == set(RECORDS)
    monkeypatch.undo()
    for act in acts:
        ca.run(act())

    def recorded() -> bool:
        methods = [logged.record.method.encode() for logged in ca.client().ca.audit.list()]
        return all(methods.count(act) == 1 for act in RECORDS)

    wait_for("each has left one record", recorded)
