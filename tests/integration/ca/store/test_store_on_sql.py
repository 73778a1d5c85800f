"""The store on both databases: values are read back verbatim and in pages, and reads do not write."""

import asyncio
from contextlib import suppress
from dataclasses import fields, replace

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from keyreeve import errors
from keyreeve.values import AuthorityState
from keyreeve_ca.ledger.ports import IssuedCertificate
from keyreeve_ca.store.ports import CertificateFilter, ControlPlaneState, Transaction
from keyreeve_ca.store.sql import store_on
from keyreeve_chassis.database.store import ReadOnly
from keyreeve_chassis.keys.key_types import KeyType
from keyreeve_chassis.keys.ports import SealedKey
from keyreeve_chassis.leases.ports import Lease
from keyreeve_chassis.operations.ports import Operation, Waiting
from support.databases import CaBench
from support.ledger_entries import (
    CALLER,
    METHOD,
    NOW,
    STATED_PROFILE,
    Block,
    authority,
    block_request,
    profile_version,
    request_id,
)

HOSTILE = "'; DROP TABLE control_plane; -- \" \\ % %s :x ? $1 \u00e9\u4e2d\U0001f511 \t\r\n`|&"


async def test_the_control_plane_is_stored_once_and_its_version_rises(ca_bench: CaBench) -> None:
    assert await ca_bench.store.read(lambda tx: tx.control_plane()) == ControlPlaneState(
        "example.test", 1, 1, b"check", NOW
    )
    assert [await ca_bench.store.write(lambda tx: tx.bump_config()) for _ in range(3)] == [2, 3, 4]
    with pytest.raises(DBAPIError):
        await ca_bench.store.write(
            lambda tx: tx.bootstrap_control_plane(ControlPlaneState("other.test", 1, 1, b"", NOW))
        )


async def test_a_key_is_read_back_until_it_is_destroyed(ca_bench: CaBench) -> None:
    key = SealedKey("key-2", KeyType.ED25519, b"public", b"sealed")
    await ca_bench.store.write(lambda tx: tx.add_key(key))
    assert await ca_bench.store.read(lambda tx: tx.key("key-2")) == key
    await ca_bench.store.write(lambda tx: tx.destroy_key("key-2"))
    with pytest.raises(LookupError):
        await ca_bench.store.read(lambda tx: tx.key("key-2"))
    assert await ca_bench.count("keys") == 2


async def test_an_authority_is_read_back_changed_and_never_made_twice(ca_bench: CaBench) -> None:
    changed = authority(state=AuthorityState.REVOKED, revoked_at=NOW + 5, revocation_reason="key_compromise")
    await ca_bench.store.write(lambda tx: tx.update_authority(changed))
    assert await ca_bench.store.read(lambda tx: tx.authority("estate-1")) == changed
    with pytest.raises(errors.AuthorityExists):
        await ca_bench.store.write(lambda tx: tx.add_authority(authority()))
    for act in (lambda tx: tx.authority("no-such"), lambda tx: tx.update_authority(authority("no-such"))):
        with pytest.raises(errors.AuthorityNotFound):
            await ca_bench.store.write(act)


async def test_authorities_and_profiles_are_paged_in_order_of_their_names(ca_bench: CaBench) -> None:
    names = [f"estate-{n}" for n in (1, 30, 4, 5)]

    def add(tx: Transaction) -> None:
        for name in names[1:]:
            tx.add_key(SealedKey(f"key of {name}", KeyType.P256, b"", b"x"))
            tx.add_authority(authority(name, issuer_id="estate-1"))
            tx.add_profile_version(profile_version(f"profile-{name}", sha256=name.encode().ljust(32)), NOW, CALLER)

    await ca_bench.store.write(add)
    read = ca_bench.store.read
    assert [a.authority_id for a in await read(lambda tx: tx.authorities())] == sorted(names)
    assert [a.authority_id for a in await read(lambda tx: tx.authorities(after="estate-1", limit=2))] == [
        "estate-30",
        "estate-4",
    ]
    assert [p.name for p in await read(lambda tx: tx.profiles(after="profile-estate-30", limit=2))] == [
        "profile-estate-4",
        "profile-estate-5",
    ]


async def test_profile_versions_follow_each_other_and_a_late_one_is_stale(ca_bench: CaBench) -> None:
    write, read = ca_bench.store.write, ca_bench.store.read
    second = profile_version(version=2, sha256=b"2" * 32)
    await write(lambda tx: tx.add_profile_version(second, NOW + 1, "bob"))
    assert await read(lambda tx: tx.profile("server")) == second
    assert await read(lambda tx: tx.profile("server", 1)) == profile_version()
    assert await read(lambda tx: tx.profile_facts("server", 2)) == (NOW + 1, "bob")
    for version, reason in (
        (1, errors.ProfileExists),
        (2, errors.ProfileVersionStale),
        (4, errors.ProfileVersionStale),
    ):
        with pytest.raises(reason):
            await write(lambda tx, v=version: tx.add_profile_version(profile_version(version=v), NOW, "eve"))
    for act in (
        lambda tx: tx.profile("other"),
        lambda tx: tx.profile("server", 9),
        lambda tx: tx.profile_facts("server", 9),
    ):
        with pytest.raises(errors.ProfileNotFound):
            await read(act)
    await write(lambda tx: tx.halt_profile("server", 2))
    assert (await read(lambda tx: tx.profile("server"))).halted
    assert not (await read(lambda tx: tx.profile("server", 1))).halted


async def test_an_error_in_a_write_leaves_nothing_behind(ca_bench: CaBench) -> None:
    def fail(tx: Transaction) -> None:
        tx.bump_config()
        tx.add_key(SealedKey("key-3", KeyType.P256, b"", b""))
        raise errors.AuthorityInUse("not now")

    with pytest.raises(errors.AuthorityInUse):
        await ca_bench.store.write(fail)
    control_plane = await ca_bench.store.read(lambda tx: tx.control_plane())
    assert control_plane is not None
    assert control_plane.config_version == 1
    assert await ca_bench.count("keys") == 1


async def test_writes_at_once_lose_no_update(ca_bench: CaBench) -> None:
    others = [ca_bench.store]
    if not ca_bench.database.is_sqlite:
        others += [ca_bench.database.store(ca_bench.database.database()) for _ in range(3)]

    def raise_version(tx: Transaction) -> None:
        control_plane = tx.control_plane()
        assert control_plane is not None
        tx.put_trust_metadata("root", control_plane.config_version, b"body")  # a lost update would repeat a version
        tx.bump_config()

    await asyncio.gather(*(store.write(raise_version) for store in others for _ in range(8)))
    control_plane = await ca_bench.store.read(lambda tx: tx.control_plane())
    assert control_plane is not None
    assert control_plane.config_version == 1 + 8 * len(others)


async def test_what_an_operation_waits_for_is_read_back_until_it_waits_no_longer(ca_bench: CaBench) -> None:
    begun = Operation.begin(METHOD, CALLER, "", {}, NOW)
    waiting = replace(begun, waiting=(Waiting(HOSTILE, "restart", NOW), Waiting("members/web-2", HOSTILE, NOW + 1)))
    await ca_bench.store.write(lambda tx: tx.operations.add(begun))
    for stored in (waiting, begun):
        await ca_bench.store.write(lambda tx, stored=stored: tx.operations.update(stored))
        assert await ca_bench.store.read(lambda tx: tx.operations.get(begun.operation_id)) == stored


WRITES = {
    "bootstrap_control_plane": lambda tx: tx.bootstrap_control_plane(ControlPlaneState("x.test", 1, 1, b"", 1)),
    "bump_config": lambda tx: tx.bump_config(),
    "add_key": lambda tx: tx.add_key(SealedKey("k", KeyType.P256, b"", b"")),
    "destroy_key": lambda tx: tx.destroy_key("key of estate-1"),
    "reserve_block": lambda tx: tx.reserve_block(block_request()),
    "add_authority": lambda tx: tx.add_authority(authority("new")),
    "update_authority": lambda tx: tx.update_authority(authority(state=AuthorityState.RETIRED)),
    "add_profile_version": lambda tx: tx.add_profile_version(profile_version("new"), NOW, ""),
    "halt_profile": lambda tx: tx.halt_profile("server", 1),
    "answer": lambda tx: tx.requests.add("c", "m", "r", b"", b""),
    "put_trust_metadata": lambda tx: tx.put_trust_metadata("root", 1, b""),
    "leases.acquire": lambda tx: tx.leases.acquire("n", "o", 1),
    "leases.renew": lambda tx: tx.leases.renew(Lease("n", 1, "o"), 1),
    "leases.check": lambda tx: tx.leases.check(Lease("n", 1, "o")),
    "leases.release": lambda tx: tx.leases.release("n", "o"),
}


@pytest.mark.parametrize("name", WRITES)
async def test_a_read_may_not_write(ca_bench: CaBench, name: str) -> None:
    with pytest.raises(ReadOnly):
        await ca_bench.store.read(WRITES[name])


async def test_the_database_itself_refuses_a_write_by_a_read(ca_bench: CaBench) -> None:
    reader = ca_bench.database.database(readonly=True)
    with pytest.raises((errors.StoreUnavailable, DBAPIError)):
        await reader.read(lambda c: c.execute(text("DELETE FROM control_plane")))
    assert await ca_bench.count("control_plane") == 1


ONE_STATEMENT = {
    "control_plane": lambda tx: tx.control_plane(),
    "certificate_and_revocation": lambda tx: tx.certificate_and_revocation(bytes(16)),
    "answered_and_version": lambda tx: tx.answered_and_version(CALLER, METHOD, request_id()),
    "tokens.pending": lambda tx: tx.tokens.pending(),
    "operations.running": lambda tx: tx.operations.running(),
    "leases.current": lambda tx: tx.leases.current("n"),
    "revocations.any_void_block": lambda tx: tx.revocations.any_void_block(),
}


@pytest.mark.parametrize("name", ONE_STATEMENT)
async def test_what_is_read_outside_a_transaction_is_one_statement(ca_bench: CaBench, name: str) -> None:
    executed: list[str] = []
    event.listen(ca_bench.store._reader.engine, "before_cursor_execute", lambda *told: executed.append(told[2]))
    with suppress(errors.CertificateNotFound):
        await ca_bench.store.read(ONE_STATEMENT[name], one_statement=True)
    assert [one.split()[0] for one in executed if not one.startswith("BEGIN")] == ["SELECT"]


@pytest.mark.parametrize("name", WRITES)
async def test_a_read_of_one_statement_may_not_write_either(ca_bench: CaBench, name: str) -> None:
    with pytest.raises(ReadOnly):
        await ca_bench.store.read(WRITES[name], one_statement=True)


async def test_a_process_without_a_writer_does_not_write(ca_bench: CaBench) -> None:
    reader = ca_bench.store.audit_log().reader
    store = store_on(reader, None, read_profile=lambda _: STATED_PROFILE, now=lambda: 0, process="reader", seals=None)
    with pytest.raises(ReadOnly, match="forward"):
        await store.write(lambda tx: tx.bump_config())


async def test_text_of_every_field_is_stored_verbatim(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    texts = {f.name: HOSTILE + f.name for f in fields(IssuedCertificate) if f.type in {"str", str}}
    texts["authority_id"] = "estate-1"
    issued = block.certificate(**texts)
    await ca_bench.ledger.commit(block.group(block.claim(issued, identifier=HOSTILE)))
    row = await ca_bench.store.read(lambda tx: tx.certificate(issued.serial))
    assert row == replace(row, **{**texts, "request_id": HOSTILE})
    found = await ca_bench.store.read(
        lambda tx: tx.certificates(CertificateFilter(identity=texts["identity"]), after=b"", limit=5)
    )
    assert found == [row]
    assert await ca_bench.store.read(lambda tx: tx.answered(CALLER, METHOD, HOSTILE)) is not None

    hostile = authority(HOSTILE, owner=HOSTILE, issuer_id=HOSTILE, key_id=HOSTILE, revocation_reason=HOSTILE)

    def write(tx: Transaction) -> None:
        tx.add_key(SealedKey(HOSTILE, KeyType.P256, b"", b"x"))
        tx.add_authority(hostile)
        tx.add_profile_version(replace(profile_version(HOSTILE), document=HOSTILE), NOW, HOSTILE)
        tx.requests.add(HOSTILE, HOSTILE, HOSTILE, b"h", b"response")
        tx.put_trust_metadata(HOSTILE, 1, b"body")

    await ca_bench.store.write(write)
    read = ca_bench.store.read
    assert await read(lambda tx: tx.authority(HOSTILE)) == hostile
    assert (await read(lambda tx: tx.profile(HOSTILE))).document == HOSTILE
    assert await read(lambda tx: tx.profile_facts(HOSTILE, 1)) == (NOW, HOSTILE)
    answered = await read(lambda tx: tx.answered(HOSTILE, HOSTILE, HOSTILE))
    assert answered is not None
    assert (answered.payload_sha256, answered.response, answered.items) == (b"h", b"response", None)
    assert await read(lambda tx: tx.trust_metadata(HOSTILE)) == b"body"


async def test_the_newest_trust_metadata_is_returned(ca_bench: CaBench) -> None:
    assert await ca_bench.store.read(lambda tx: tx.trust_metadata("root")) is None
    for version in (1, 3, 2):
        await ca_bench.store.write(lambda tx, v=version: tx.put_trust_metadata("root", v, str(v).encode()))
    assert await ca_bench.store.read(lambda tx: tx.trust_metadata("root")) == b"3"
    with pytest.raises(DBAPIError):
        await ca_bench.store.write(lambda tx: tx.put_trust_metadata("root", 3, b"another"))


async def test_an_unknown_serial_number_is_not_found(ca_bench: CaBench) -> None:
    with pytest.raises(errors.CertificateNotFound):
        await ca_bench.store.read(lambda tx: tx.certificate(b"\x40" + bytes(15)))
    assert await ca_bench.store.read(lambda tx: tx.successor(b"\x40" + bytes(15))) is None
    assert await ca_bench.store.read(lambda tx: tx.certificates_by_serial([])) == {}


async def test_the_last_expiry_counts_leaves_and_subordinate_authorities(ca_bench: CaBench) -> None:
    read = ca_bench.store.read
    assert await read(lambda tx: tx.last_expiry("estate-1")) is None
    block = await Block.leased(ca_bench.ledger)
    ends = [NOW + 50, NOW + 900, NOW + 70]
    for end in ends:
        await ca_bench.ledger.commit(block.group(block.claim(block.certificate(not_after=end))))
    assert await read(lambda tx: tx.last_expiry("estate-1")) == NOW + 900
    below = authority("below", issuer_id="estate-1", key_id="key of estate-1", not_after=NOW + 5000)
    await ca_bench.store.write(lambda tx: tx.add_authority(below))
    assert await read(lambda tx: tx.last_expiry("estate-1")) == NOW + 5000


class Pages:
    """A ledger of several blocks, authorities, profiles and callers, and the same rows in memory."""

    def __init__(self, ca_bench: CaBench) -> None:
        self.bench = ca_bench
        self.rows: list[IssuedCertificate] = []

    async def fill(self) -> "Pages":
        def add(tx: Transaction) -> None:
            tx.add_authority(authority("estate-2", key_id="key of estate-1"))
            tx.add_profile_version(profile_version("client", sha256=b"c" * 32), NOW, CALLER)

        await self.bench.store.write(add)
        ledger = self.bench.ledger
        blocks = [
            await Block.leased(ledger, block_request(a)) for a in ("estate-1", "estate-2", "estate-1", "estate-2")
        ]
        for n in range(60):
            block = blocks[n % 4 if n % 5 else 0]
            row = block.certificate(
                profile_name=("server", "client")[n % 2],
                profile_version=1 + n % 3,
                caller=f"caller-{n % 3}",
                identity=f"identity-{n % 7}",
                not_before=NOW + 100 * n,
                not_after=NOW + 100 * n + (150 if n % 4 else 20_000),
                issued_at=NOW + n,
            )
            await ledger.commit(block.group(block.claim(row)))
            self.rows.append(row)
        return self

    def expected(self, wanted: CertificateFilter) -> list[bytes]:
        return sorted(r.serial for r in self.rows if self.fits(r, wanted))

    @staticmethod
    def fits(row: IssuedCertificate, wanted: CertificateFilter) -> bool:
        equal = (("authority_id", "authority_id"), ("profile_name",) * 2, ("identity",) * 2, ("caller",) * 2)
        return (
            all(getattr(wanted, w) in {None, getattr(row, r)} for w, r in equal)
            and (wanted.valid_at is None or row.not_before <= wanted.valid_at <= row.not_after)
            and (wanted.expired_at is None or row.not_after < wanted.expired_at)
            and (wanted.expires_before is None or row.not_after < wanted.expires_before)
        )


FILTERS = [
    CertificateFilter(),
    CertificateFilter(authority_id="estate-2"),
    CertificateFilter(authority_id="no-such"),
    CertificateFilter(profile_name="client"),
    CertificateFilter(identity="identity-3"),
    CertificateFilter(identity="no-such"),
    CertificateFilter(identity="identity-3", profile_name="client", authority_id="estate-1"),
    CertificateFilter(caller="caller-1"),
    CertificateFilter(valid_at=NOW + 2000),
    CertificateFilter(valid_at=NOW + 2000, identity="identity-1"),
    CertificateFilter(expired_at=NOW + 3000),
    CertificateFilter(expired_at=NOW - 1),
    CertificateFilter(expires_before=NOW + 1000, caller="caller-0"),
    CertificateFilter(expired_at=NOW + 5000, expires_before=NOW + 4000, authority_id="estate-1"),
]


async def test_pages_of_every_filter_hold_what_fits_once_and_in_order(ca_bench: CaBench) -> None:
    pages = await Pages(ca_bench).fill()
    for wanted in FILTERS:
        for size in (1, 7, 1000):
            seen: list[bytes] = []
            after = b""
            while True:
                page = await ca_bench.store.read(
                    lambda tx, w=wanted, a=after, n=size: tx.certificates(w, after=a, limit=n)
                )
                seen += [row.serial for row in page]
                if len(page) < size:
                    break
                after = page[-1].serial
            assert seen == pages.expected(wanted), (wanted, size)


async def test_the_newest_certificates_come_first(ca_bench: CaBench) -> None:
    pages = await Pages(ca_bench).fill()
    newest = [r.serial for r in reversed(pages.rows)]
    read = ca_bench.store.read
    assert [r.serial for r in await read(lambda tx: tx.newest_certificates(None, 10))] == newest[:10]
    clients = [r.serial for r in reversed(pages.rows) if r.profile_name == "client"]
    assert [r.serial for r in await read(lambda tx: tx.newest_certificates("client", 500))] == clients


async def test_a_slow_mutation_and_a_signing_request_share_one_space_of_ids(ca_bench: CaBench) -> None:
    same = request_id()
    await ca_bench.store.write(lambda tx: tx.requests.add(CALLER, METHOD, same, b"h", b"response"))
    block = await Block.leased(ca_bench.ledger)
    [outcome] = await ca_bench.ledger.commit(block.group(block.claim(identifier=same)))
    assert (outcome.payload_sha256, outcome.items) == (b"h", ())
    with pytest.raises(DBAPIError):
        await ca_bench.store.write(lambda tx: tx.requests.add(CALLER, METHOD, same, b"h", b"another"))
