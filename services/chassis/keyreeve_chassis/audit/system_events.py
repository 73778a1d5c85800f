"""Audit records of what a service does by itself or for the local admin socket, without a caller."""

from keyreeve.audit.record import Pairs, Record


def system_event(act: str, now: int, results: Pairs) -> bytes:
    """The record of an event such as `recover`; append it to the event's transaction.

    `now` is in seconds since 1970.
    """
    return Record(
        method=f"keyreeve/{act}",
        caller="",
        credential="",
        subject="",
        peer="unix:local",
        tls="",
        time=now * 1000,
        request_id="",
        call_id="",
        targets=(),
        code="OK",
        reason="",
        results=results,
        calls=1,
    ).encode()
