"""Entries of the vault."""

from collections.abc import AsyncGenerator, Sequence

from google.protobuf.field_mask_pb2 import FieldMask

from keyreeve import vault_wire
from keyreeve._async.calls import Caller
from keyreeve.credentials.v1 import entry_service_pb2 as pb
from keyreeve.plaintext import Plaintext
from keyreeve.request_ids import new_request_id
from keyreeve.vault_values import DeletedEntries, Entry, EntryKind, ImportReport, ImportRow, RevealedEntry
from keyreeve.wire_fields import resource_name, to_number

_SERVICE = "/keyreeve.credentials.v1.EntryService"


class EntryClient:
    """Entries of the vault; reached as `Client.credentials.entries`.

    Arrays may be named in full (`arrays/sales`) or by their last part, entries only in full. Every method raises
    `keyreeve.errors` and takes a `timeout` in seconds over all its attempts.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def create(
        self,
        array: str,
        owner: str,
        resource: str,
        user_name: str,
        secret: Plaintext | None = None,
        *,
        kind: EntryKind = EntryKind.PASSWORD,
        domain: str = "",
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Entry:
        """Create an entry of an owner for a resource (empty: the login password).

        The secret is left out for `EntryKind.SMART_CARD`; only a login password has a `domain`.
        """
        request = pb.CreateEntryRequest(
            parent=resource_name("arrays", array),
            entry=pb.Entry(
                owner=owner,
                resource=resource,
                user_name=user_name,
                domain=domain,
                kind=to_number(vault_wire.KINDS, kind, "kind"),
            ),
            secret=b"" if secret is None else secret.reveal(),
            request_id=request_id or new_request_id(),
        )
        return vault_wire.from_entry(await self._caller.unary(f"{_SERVICE}/CreateEntry", request, pb.Entry, timeout))

    async def get(self, name: str, *, timeout: float | None = None) -> Entry:
        """Look up an entry, without its secret."""
        request = pb.GetEntryRequest(name=name)
        return vault_wire.from_entry(await self._caller.unary(f"{_SERVICE}/GetEntry", request, pb.Entry, timeout))

    async def list(
        self,
        array: str,
        *,
        owner: str = "",
        resource: str = "",
        user_name: str = "",
        login_only: bool = False,
        page_size: int = 150,
        timeout: float | None = None,
    ) -> AsyncGenerator[Entry, None]:
        """Iterate over entries in order of owner and resource; in the filters `*` stands for any characters.

        `timeout` is for each page.
        """
        request = pb.ListEntriesRequest(
            parent=resource_name("arrays", array),
            owner=owner,
            resource=resource,
            user_name=user_name,
            login_only=login_only,
            page_size=page_size,
        )
        while True:
            page = await self._caller.unary(f"{_SERVICE}/ListEntries", request, pb.ListEntriesResponse, timeout)
            for message in page.entries:
                yield vault_wire.from_entry(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def update(
        self,
        name: str,
        *,
        user_name: str | None = None,
        kind: EntryKind | None = None,
        secret: Plaintext | None = None,
        domain: str | None = None,
        version: int = 0,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Entry:
        """Change what is given, and keep the rest; with a `version`, only if it is the present one."""
        given = {"user_name": user_name, "kind": kind, "secret": secret, "domain": domain}
        request = pb.UpdateEntryRequest(
            entry=pb.Entry(
                name=name,
                version=version,
                user_name=user_name or "",
                domain=domain or "",
                kind=pb.ENTRY_KIND_UNSPECIFIED if kind is None else to_number(vault_wire.KINDS, kind, "kind"),
            ),
            update_mask=FieldMask(paths=[path for path, value in given.items() if value is not None]),
            secret=b"" if secret is None else secret.reveal(),
            request_id=request_id or new_request_id(),
        )
        return vault_wire.from_entry(await self._caller.unary(f"{_SERVICE}/UpdateEntry", request, pb.Entry, timeout))

    async def delete(self, name: str, *, request_id: str | None = None, timeout: float | None = None) -> None:
        """Delete an entry."""
        request = pb.DeleteEntryRequest(name=name, request_id=request_id or new_request_id())
        await self._caller.unary(f"{_SERVICE}/DeleteEntry", request, pb.DeleteEntryResponse, timeout)

    async def delete_all(
        self, array: str, *, owner: str = "", resource: str = "", timeout: float | None = None
    ) -> DeletedEntries:
        """Delete all entries of an owner, of a resource, or of both; `timeout` is for each 1,000."""
        names: list[str] = []
        while True:
            request = pb.DeleteEntriesRequest(
                parent=resource_name("arrays", array),
                owner=owner,
                resource=resource,
                request_id=new_request_id(),
            )
            method = f"{_SERVICE}/DeleteEntries"
            done = await self._caller.unary(method, request, pb.DeleteEntriesResponse, timeout)
            names += done.names
            if not done.more:
                return DeletedEntries(tuple(names))

    async def import_rows(
        self,
        array: str,
        rows: Sequence[ImportRow],
        *,
        replace: bool = False,
        dry_run: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> ImportReport:
        """Create all entries or none, at most 5,000; `replace` makes the next version of those that exist.

        Raises `keyreeve.errors.ImportRefused`, whose violations name the lines.
        """
        header = pb.ImportHeader(
            parent=resource_name("arrays", array),
            replace=replace,
            dry_run=dry_run,
            request_id=request_id or new_request_id(),
        )
        messages = [pb.ImportEntriesRequest(header=header)]
        messages += [
            pb.ImportEntriesRequest(
                entry=pb.ImportedEntry(
                    line=row.line,
                    entry=pb.Entry(
                        owner=row.owner,
                        resource=row.resource,
                        user_name=row.user_name,
                        domain=row.domain,
                        kind=to_number(vault_wire.KINDS, row.kind, "kind"),
                    ),
                    secret=b"" if row.secret is None else row.secret.reveal(),
                )
            )
            for row in rows
        ]
        method = f"{_SERVICE}/ImportEntries"
        done = await self._caller.upload(method, messages, pb.ImportEntriesResponse, timeout)
        return ImportReport(done.created, done.replaced, done.dry_run)

    async def reveal(self, name: str, *, purpose: str, timeout: float | None = None) -> RevealedEntry:
        """Read the secret of an entry; the call and its purpose are audited."""
        request = pb.RevealEntryRequest(name=name, purpose=purpose)
        method = f"{_SERVICE}/RevealEntry"
        response = await self._caller.unary(method, request, pb.RevealEntryResponse, timeout)
        return RevealedEntry(vault_wire.from_entry(response.entry), Plaintext(response.secret))
