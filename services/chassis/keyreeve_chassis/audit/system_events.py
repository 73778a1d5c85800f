"""Audit records of what the service does by itself, or for whoever is at the machine: nobody calls, so nobody is named."""

from keyreeve.audit.record import Pairs, Record


def system_event(act: str, now: int, results: Pairs) -> bytes:
    """The record of an act such as `recover`; `now` in seconds since 1970. Append it to the transaction of the act."""
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
