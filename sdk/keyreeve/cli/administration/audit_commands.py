"""`keyreeve audit`: search and verify the audit log of a service."""

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane, load_context
from keyreeve.cli.options import ContextFile, Output, Quiet, ServiceName
from keyreeve.cli.printing import Format, Printer, moment, tell_of_more
from keyreeve.errors import AuditTampered, FileUnusable, TrustTableAltered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyreeve._blocking.audit import AuditClient
    from keyreeve.audit.values import LoggedRecord
    from keyreeve.audit.verifying import Problem, Verifier
    from keyreeve.audit.witness import Witness

app = typer.Typer(help="Search the audit log of a service, and verify that it is complete.", no_args_is_help=True)

_COLUMNS = ("time", "caller", "method", "code", "about")
_FOLLOW_SECONDS = 1.0

Caller = Annotated[str, typer.Option("--caller", help="SPIFFE ID of the caller, or on whose behalf it called.")]
Method = Annotated[str, typer.Option("--method", help="Method, such as SignCertificate.")]
Code = Annotated[str, typer.Option("--code", help="Name of the gRPC status code, such as PERMISSION_DENIED.")]
Reason = Annotated[str, typer.Option("--reason", help="Reason of the failure, such as NAME_REFUSED.")]
Resource = Annotated[str, typer.Option("--resource", help="Resource name in the request or the result.")]
Id = Annotated[str, typer.Option("--id", help="request_id, or the id of a call.")]


@app.command("list")
def list_records(
    *,
    caller: Caller = "",
    method: Method = "",
    code: Code = "",
    reason: Reason = "",
    resource: Resource = "",
    id: Id = "",  # noqa: A002  # the option's name
    since: Annotated[
        str | None, typer.Option("--since", help="Only those at or after a time, or of the last 30d, 12h, ...")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="Only those before a time, or older than 30d, 12h, ...")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many, the newest.")] = 50,
    service: ServiceName = "ca",
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """List the newest matching records, the oldest of them first.

    Records appear within a second of their call.
    """
    from itertools import islice

    from keyreeve.cli.calling import read_past

    first, last = read_past(since), read_past(until)
    if first is not None and last is not None and first >= last:
        raise typer.BadParameter(f"no record can be from {moment(first)} on and before {moment(last)}")
    with control_plane(context) as client:
        found = client.service(service).audit.list(
            newest_first=True,
            caller=caller,
            method=method,
            code=code,
            reason=reason,
            resource=resource,
            id=id,
            since=first,
            until=last,
        )
        rows = [_row(one) for one in islice(found, limit)][::-1]
        tell_of_more(found, limit)
    Printer(output, quiet=quiet).rows(_COLUMNS, rows, brief="call_id", none="no record matches")


@app.command("follow")
def follow_records(
    *,
    caller: Caller = "",
    method: Method = "",
    code: Code = "",
    service: ServiceName = "ca",
    context: ContextFile = None,
    output: Output = Format.TABLE,
) -> None:
    """Print records as they are written, from now on, until interrupted."""
    from datetime import UTC

    from keyreeve.cli.client_certificate import renew_if_due

    token, since = "", datetime.now(UTC)
    with control_plane(context) as client:
        log = client.service(service).audit
        while True:
            renew_if_due(client.context)
            page = log.page(token=token, caller=caller, method=method, code=code, since=since)
            for one in page.records:
                row = _row(one)
                typer.echo(_json(row) if output is not Format.TABLE else "  ".join(str(row[c]) for c in _COLUMNS))
            token = page.token
            if page.at_end:
                time.sleep(_FOLLOW_SECONDS)


@app.command("verify")
def verify_log(
    *,
    witness: Annotated[
        Path | None,
        typer.Option(
            "--witness",
            help="File with the last checkpoint that was seen. Default: `audit-witness.json` beside your certificate, "
            "and `audit-witness-NAME.json` for another service than the CA.",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="Verify an export instead, without a call; compared with --witness, if given."),
    ] = None,
    service: ServiceName = "ca",
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Verify the whole log.

    It is recomputed, and compared with the signed checkpoints and with what the witness has seen. The service also says
    whether something else has changed the tables that decide about rights.

    The witness file is updated when the log is complete. Keep it where the database's administrators cannot write.
    """
    if file is not None:
        report = _verify_file(file, witness)
    else:
        path = witness or load_context(context).certificate.with_name(witness_name(service))
        with control_plane(context) as client:
            report = verify_service_log(client.service(service).audit, path)
    text = (
        f"the log is complete up to checkpoint {report['checkpoint']}, signed at {report['signed_at']}: "
        f"{report['records']} records in {report['commits']} commits, {report['purged']} of them purged by age\n"
    )
    if report["witness"]:
        text += f"{report['witness']}\n"
    if report["tail"]:
        text += f"{report['tail']} commits are newer than that; the next checkpoint covers them within seconds\n"
    Printer(output, quiet=quiet).answer(report, text, brief=str(report["checkpoint"]))


@app.command("export")
def export_log(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write; it must not exist yet.")],
    *,
    service: ServiceName = "ca",
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Write the whole log to a file, one JSON object per line.

    `audit verify --file` verifies it offline.
    """
    from keyreeve.audit import exports

    with control_plane(context) as client:
        log = client.service(service).audit
        spki = log.checkpoint().spki
        try:
            with file.open("x", encoding="utf-8") as to:
                file.chmod(0o600)
                records = exports.write(log.segments(), spki, to)
        except OSError as wrong:
            raise FileUnusable(f"{file} cannot be written: {wrong.strerror or wrong}") from None
    report = {"file": str(file), "records": records}
    Printer(output, quiet=quiet).answer(report, f"{records} records in {file}", brief=str(file))


def witness_name(service: str) -> str:
    """The default name of the witness file of a service's log."""
    return "audit-witness.json" if service == "ca" else f"audit-witness-{service}.json"


def verify_service_log(log: "AuditClient", path: Path) -> dict[str, Any]:
    """Verify a service's log against the witness in `path`, which is then replaced; return what is reported.

    Raises `AuditTampered`, and `TrustTableAltered` when the log is complete and the tables are not.
    """
    from keyreeve.audit.verifying import Verifier
    from keyreeve.audit.witness import Witness, accept

    known = Witness.load(path)
    newest = log.checkpoint(consistent_with=_consistent_with(log, known))
    now = accept(known, newest)
    verifier = Verifier(now.spki, witnessed=[] if known is None else [known.seen])
    for segment in log.segments():
        verifier.add(segment)
    verifier.finish()
    report = log.verify(witnessed=[now.seen])
    altered = [p for p in report.problems if p.kind == "table"]
    _refuse([*verifier.problems, *(p for p in report.problems if p not in [*verifier.problems, *altered])])
    try:
        now.save(path)
    except OSError as wrong:
        raise FileUnusable(f"the witness {path} cannot be written: {wrong.strerror or wrong}") from None
    _refuse_altered(altered)
    seen = f"the witness {path} had seen checkpoint {known.seen.k}" if known else f"the witness {path} is new"
    return _report(verifier, seen, report.tail_links)


def _consistent_with(log: "AuditClient", known: "Witness | None") -> int:
    """Return the witnessed checkpoint to prove consistency with.

    Raises `AuditTampered` when the log ends before it.
    """
    if known is None:
        return 0
    newest = log.checkpoint().checkpoint.k
    if newest < known.seen.k:
        raise AuditTampered(
            f"checkpoint {known.seen.k} was witnessed, but the log ends with {newest}",
            metadata={"witnessed": str(known.seen.k), "answered": str(newest)},
        )
    return known.seen.k


def _verify_file(file: Path, path: Path | None) -> dict[str, Any]:
    from keyreeve.audit import exports
    from keyreeve.audit.verifying import Verifier
    from keyreeve.audit.witness import Witness

    known = Witness.load(path) if path is not None else None
    if path is not None and known is None:
        raise FileUnusable(f"there is no witness {path}")
    try:
        with file.open(encoding="utf-8") as lines:
            spki, segments = exports.read(lines)
            if known is not None and known.spki != spki:
                raise AuditTampered("the export names another audit key than the witness knows")
            verifier = Verifier(spki, witnessed=[] if known is None else [known.seen])
            for segment in segments:
                verifier.add(segment)
    except (OSError, UnicodeDecodeError) as wrong:
        raise FileUnusable(f"{file} cannot be read: {wrong}") from None
    verifier.finish()
    _refuse(verifier.problems)
    return _report(verifier, f"the witness had seen checkpoint {known.seen.k}" if known else "", 0)


def _refuse(problems: "Sequence[Problem]") -> None:
    if problems:
        lines = _lines([f"{p.kind}: {p.where}: {p.message}" for p in problems])
        raise AuditTampered(f"the audit log has been changed:{lines}", metadata={"problems": str(len(problems))})


def _refuse_altered(tables: "Sequence[Problem]") -> None:
    if tables:
        lines = _lines([f"{p.where}: {p.message}" for p in tables])
        raise TrustTableAltered(
            f"the log is complete, but something other than the service has changed tables that decide about rights:{lines}",
            metadata={"problems": str(len(tables))},
        )


def _lines(problems: list[str]) -> str:
    more = [f"and {len(problems) - 10} more"] if len(problems) > 10 else []
    return "".join(f"\n  {line}" for line in [*problems[:10], *more])


def _report(verifier: "Verifier", seen: str, tail: int) -> dict[str, Any]:
    from datetime import UTC

    last = verifier.last
    signed_at = "" if last is None else moment(datetime.fromtimestamp(last.time / 1000, UTC))
    return {
        "checkpoint": 0 if last is None else last.k,
        "signed_at": signed_at,
        "records": verifier.records,
        "commits": verifier.links,
        "purged": verifier.purged,
        "witness": seen,
        "tail": tail,
    }


def _row(one: "LoggedRecord") -> dict[str, Any]:
    from keyreeve.audit.exports import plain_values

    record = one.record
    code = record.code if not record.reason else f"{record.code}/{record.reason}"
    about = [value for _, value in (*record.targets, *record.results)]
    row = plain_values(record) | {
        "time": moment(one.called_at),
        "committed_at": moment(one.committed_at),
        "position": one.position,
        "caller": record.caller or record.peer,
        "method": record.method.rpartition("/")[2] or f"{record.calls} calls",
        "code": code,
        "about": about,
    }
    return {name: _escaped(value) for name, value in row.items()}


def _escaped(value: object) -> Any:  # noqa: ANN401  # plain values
    """Escape characters that could move a terminal's cursor or reverse its text."""
    if isinstance(value, str):
        return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in value)
    return [_escaped(each) for each in value] if isinstance(value, list) else value


def _json(row: dict[str, Any]) -> str:
    import json

    return json.dumps(row, ensure_ascii=False)
