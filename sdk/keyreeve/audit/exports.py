"""Exported audit logs: one JSON object per line, searchable and verifiable.

The first line names the format and the audit key; then, for each checkpoint, the chains that begin in it, its commits with
their records as plain values beside their canonical bytes, and the checkpoint. Only the canonical bytes are verified.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator
from typing import IO, Any

from keyreeve.audit.log import Checkpoint, Link, Registration
from keyreeve.audit.record import Record, RecordInvalid, split_fields
from keyreeve.audit.verifying import Segment
from keyreeve.errors import FileUnusable

FORMAT = "keyreeve-audit-1"


def write(segments: Iterable[Segment], spki: bytes, to: IO[str]) -> int:
    """Write a log; return the number of its records."""
    to.write(_line({"format": FORMAT, "spki": _text(spki)}))
    return write_segments(segments, to)


def write_segments(segments: Iterable[Segment], to: IO[str]) -> int:
    """Append segments to an export; return the number of their records."""
    records = 0
    for segment in segments:
        for registration in segment.registrations:
            chain = registration._asdict() | {"chain": registration.chain.hex()}
            to.write(_line({"registration": chain}))
        for link in segment.links:
            records += len(link.leaves) // 32
            to.write(_line({"link": _link(link)}))
        checkpoint = Checkpoint.decode(segment.body)
        signed = {"k": checkpoint.k, "time": checkpoint.time, "size": checkpoint.size, "root": checkpoint.root.hex()}
        signed |= {"body": _text(segment.body), "signature": _text(segment.signature)}
        to.write(_line({"checkpoint": signed}))
    return records


def read(lines: Iterable[str]) -> tuple[bytes, Iterator[Segment]]:
    """Read an export; return the audit key that it names, and its segments.

    Raises `FileUnusable`.
    """
    rest = iter(lines)
    first = _parsed(next(rest, ""), 1)
    if first.get("format") != FORMAT:
        raise FileUnusable("this is not an exported audit log")
    return _bytes(first["spki"], 1), _segments(rest)


def plain_values(record: Record) -> dict[str, Any]:
    """Return the fields of a record as plain values."""
    values = record._asdict()
    for name in ("targets", "results"):
        values[name] = [f"{field}={value}" for field, value in values[name]]
    return values


def _segments(lines: Iterator[str]) -> Iterator[Segment]:
    registrations: list[Registration] = []
    links: list[Link] = []
    for number, line in enumerate(lines, start=2):
        document = _parsed(line, number)
        try:
            match document:
                case {"registration": r}:
                    registrations.append(
                        Registration(bytes.fromhex(r["chain"]), r["restore_generation"], r["writer"], r["registered"])
                    )
                case {"link": k}:
                    bodies = None if k["bodies"] is None else _bytes(k["bodies"], number)
                    leaves, link = _bytes(k["leaves"], number), bytes.fromhex(k["link"])
                    read = Link(bytes.fromhex(k["chain"]), k["n"], k["db_time"], leaves, bodies, link)
                    if not _agree(k.get("records"), _link(read).get("records")):
                        raise FileUnusable(
                            f"the readable records of line {number} are not those that were signed: they were changed"
                        )
                    links.append(read)
                case {"checkpoint": c}:
                    body, signature = _bytes(c["body"], number), _bytes(c["signature"], number)
                    yield Segment(body, signature, tuple(registrations), tuple(links))
                    registrations, links = [], []
                case _:
                    raise FileUnusable(f"line {number} is not part of an audit log")
        except (KeyError, TypeError, ValueError) as wrong:
            raise FileUnusable(f"line {number} cannot be read: {wrong!r}") from None
    if links or registrations:
        raise FileUnusable("the export is truncated: it ends before the checkpoint of its last commits")


def _link(link: Link) -> dict[str, Any]:
    document: dict[str, Any] = {
        "chain": link.chain.hex(),
        "n": link.n,
        "db_time": link.db_time,
        "leaves": _text(link.leaves),
        "link": link.link.hex(),
        "bodies": None if link.bodies is None else _text(link.bodies),
    }
    if link.bodies is not None:
        try:
            document["records"] = [plain_values(Record.decode(body)) for body in split_fields(link.bodies)]
        except RecordInvalid:
            document["records"] = None  # verification reports what is wrong with it
    return document


def _agree(readable: Any, signed: Any) -> bool:  # noqa: ANN401  # what JSON holds
    """Whether readable records say what the signed bytes say; an earlier release may have written fewer fields."""
    if not isinstance(readable, list) or not isinstance(signed, list):
        return readable is None or readable == signed
    return len(readable) == len(signed) and all(
        isinstance(shown, dict) and all(name in true and true[name] == value for name, value in shown.items())
        for shown, true in zip(readable, signed, strict=True)
    )


def _line(document: object) -> str:
    # Escaped: a name in a request must not be able to forge a line or move a terminal's cursor.
    return json.dumps(document, ensure_ascii=True) + "\n"


def _parsed(line: str, number: int) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except ValueError:
        raise FileUnusable(f"line {number} is not JSON") from None
    if not isinstance(document, dict):
        raise FileUnusable(f"line {number} is not an object")
    return document


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str, number: int) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise FileUnusable(f"line {number} has a value that is not base64") from None
