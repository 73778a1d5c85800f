"""The commit path: the gate with a stale snapshot, used-up blocks, and secrets."""

import asyncio
import base64
import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from sqlalchemy import select, update

from keyreeve import errors
from keyreeve.identity import Caller, Role
from keyreeve.keys import load_key, make_csr, make_key
from keyreeve.values import AuthorityKind, Hierarchy, Name
from keyreeve_ca.certificates.linter import PkilintLinter
from keyreeve_ca.certificates.serials import block_of
from keyreeve_ca.issuance.sampling import Sampling
from keyreeve_ca.issuance.service import RETRY_AFTER, Issuance, LedgerEntry, SignItem, SignRequest
from keyreeve_ca.ledger.ports import BLOCK_SIZE, MAX_UNCOMMITTED, BlockLease, BlockRequest, CommitGroup, Ledger, Rpc
from keyreeve_ca.store.schema import SCHEMA
from keyreeve_ca.store.tables import certificates
from keyreeve_chassis.guard.admission import FairShare
from keyreeve_chassis.keys.sealed import SealedKeyStore
from support.running_ca import ADMIN, MEMBERSHIP, OPERATOR, RunningCa, document, refused, server_csr, unique


def sign(ca: RunningCa, issuance: Issuance, *items: SignItem) -> list[LedgerEntry | errors.KeyreeveError]:
    """Sign over a signing path, asked for by an admin."""
    return ca.run(issuance.sign(SignRequest(admin(ca), Rpc("/test"), str(uuid.uuid4()), b"", items)))


def admin(ca: RunningCa) -> Caller:
    return Caller(ca.spiffe_id(ADMIN), Role.ADMIN, serial=1)


def late(ca: RunningCa) -> Issuance:
    """The coordinator's signing path with what it knows now; it learns of nothing until the gate refuses it."""
    issuance = ca.coordinator.issuance
    ca.run(issuance.reload())
    known = [issuance.snapshot()]

    async def reload() -> None:
        await issuance.reload()
        known[0] = issuance.snapshot()

    return replace(issuance, snapshot=lambda: known[0], reload=reload)


# --- The gate -----------------------------------------------------------------------------------------------------------


def test_a_process_that_knows_too_little_signs_in_vain_and_then_under_the_successor(
    own_ca: RunningCa, caplog: pytest.LogCaptureFixture
):
    issuance, authorities = late(own_ca), own_ca.client().authorities
    item = SignItem("server", server_csr("a.test"))
    [first] = sign(own_ca, issuance, item)
    assert first.authority_id == "estate-issuing-1"
    authorities.create(
        "second",
        hierarchy=Hierarchy.ESTATE,
        kind=AuthorityKind.INTERMEDIATE,
        issuer="estate-root-1",
        common_name="second",
    )
    authorities.activate("second")
    authorities.retire("estate-issuing-1")
    [entry] = sign(own_ca, issuance, item)
    assert entry.authority_id == "second"
    assert "the commit gate refused a group (authority)" in caplog.text


def test_a_process_that_knows_too_little_gives_a_clear_reason_when_nothing_is_left(ca: RunningCa):
    array = unique("array")
    authorities = ca.client(MEMBERSHIP).authorities
    authorities.create(
        array, hierarchy=Hierarchy.STANDALONE, kind=AuthorityKind.ROOT, owner="appliances/x", common_name=array
    )
    authorities.activate(array)
    issuance = late(ca)
    authorities.retire(array)
    profile = unique("profile")
    ca.client().profiles.create(profile, document(hierarchy="standalone"))
    item = SignItem(profile, server_csr("a.test"), authority=array)
    # It has not heard of the profile either, and asks before it refuses.
    [told] = sign(ca, issuance, item)
    assert isinstance(told, errors.AuthorityStateWrong)
    assert told.metadata["state"] == "retiring"


def test_nothing_of_a_halted_profile_enters_the_ledger_whatever_a_process_knows(ca: RunningCa):
    profile = ca.new_profile(description=unique("halted"))
    issuance = late(ca)
    item = SignItem(profile, server_csr("a.test"))
    sign(ca, issuance, item)
    ca.write(lambda tx: (tx.halt_profile(profile, 1), tx.bump_config()))
    [told] = sign(ca, issuance, item)
    assert isinstance(told, errors.ProfileHalted)
    assert len(list(ca.client().certificates.list(profile=profile))) == 1
    ca.client().profiles.update(profile, document(keys=["p256"]))
    assert ca.client().certificates.sign(profile, server_csr("a.test"))


def test_a_halted_profile_leaves_the_others_of_its_hierarchy_their_blocks(ca: RunningCa):
    description = unique("halted")
    halted, other = ca.new_profile(description=description), ca.new_profile()
    ca.write(lambda tx: (tx.halt_profile(halted, 1), tx.bump_config()))
    assert refused(lambda: ca.client().certificates.sign(halted, server_csr("a.test"))).reason == "PROFILE_HALTED"
    # A signing path without a block of its own has to lease one.
    [entry] = sign(ca, replace(late(ca)), SignItem(other, server_csr("a.test")))
    assert entry.profile_name == other
    # The same document under another name is the same document.
    copy = ca.client().profiles.get(ca.new_profile(description=description))
    assert copy.halted
    assert refused(lambda: ca.client().certificates.sign(copy.name, server_csr("a.test"))).reason == "PROFILE_HALTED"
    ca.client().profiles.update(copy.name, document(description=unique("corrected")))
    assert ca.client().certificates.sign(copy.name, server_csr("a.test"))


# --- Blocks -------------------------------------------------------------------------------------------------------------


@dataclass
class Watched:
    """A ledger that notes which counters are in use."""

    inner: Ledger
    leased: list[int] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    committed: dict[int, int] = field(default_factory=dict)
    ahead: int = 0

    async def lease_block(self, request: BlockRequest) -> BlockLease:
        lease = await self.inner.lease_block(request)
        self.leased.append(lease.block_id)
        return lease

    async def commit(self, group: CommitGroup) -> Sequence[Any]:
        before = self.committed.get(group.block_id, -1)
        assert before < group.last_counter < BLOCK_SIZE
        self.ahead = max(self.ahead, group.last_counter - before)
        outcomes = await self.inner.commit(group)
        self.committed[group.block_id] = group.last_counter
        return outcomes

    async def find_group(self, group_id: bytes) -> Sequence[Any] | None:
        return await self.inner.find_group(group_id)

    async def close_block(self, block_id: int, worker_id: str) -> bool:
        self.closed.append(block_id)
        return await self.inner.close_block(block_id, worker_id)


def test_a_block_that_is_used_up_is_followed_by_another_with_at_most_w_in_flight(ca: RunningCa):
    issuance = late(ca)
    watched = Watched(issuance.ledger)
    issuance = replace(issuance, ledger=watched, admission=FairShare("certificates", 100_000, RETRY_AFTER))
    items = [SignItem("server", server_csr("a.test"))] * 100

    async def many() -> list[LedgerEntry]:
        requests = [SignRequest(admin(ca), Rpc("/test"), str(uuid.uuid4()), b"", tuple(items)) for _ in range(42)]
        outcomes = await asyncio.gather(*(issuance.sign(request) for request in requests))
        return [entry for outcome in outcomes for entry in outcome]

    entries = ca.run(many(), seconds=60)
    assert all(not isinstance(entry, errors.KeyreeveError) for entry in entries)
    assert len({entry.serial for entry in entries}) == 4200
    assert len(watched.leased) == 2
    assert {block_of(entry.serial) for entry in entries} == set(watched.leased)
    assert watched.closed == watched.leased[:1], "what does not fit into its rest goes into the next"
    assert 100 <= watched.ahead <= MAX_UNCOMMITTED
    stored = ca.read(lambda tx: tx.certificates_by_serial([entry.serial for entry in entries]))
    assert len(stored) == 4200


# --- Looking again ------------------------------------------------------------------------------------------------------


def sampling(ca: RunningCa, alarms: list[str], *, halt: bool) -> Sampling:
    return Sampling(ca.coordinator.issuance.store, PkilintLinter(ca.settings.trust_domain), 1.0, halt, alarms.append)


def spoil(ca: RunningCa, serial: str) -> None:
    """Change a certificate of the ledger behind its back."""
    entry = ca.read(lambda tx: tx.certificate(bytes.fromhex(serial)))
    der = entry.der[:-1] + bytes([entry.der[-1] ^ 1])
    where = certificates.c.serial == entry.serial
    ca.write(lambda tx: tx._connection.execute(update(certificates).where(where).values(der=der)))


def test_a_bad_certificate_in_the_ledger_raises_the_alarm_once(own_ca: RunningCa, caplog: pytest.LogCaptureFixture):
    profile = own_ca.new_profile()
    good, bad = (own_ca.client().certificates.sign(profile, server_csr("a.test")).serial for _ in range(2))
    alarms: list[str] = []
    look = sampling(own_ca, alarms, halt=False)
    assert own_ca.run(look.look()) >= 2
    assert alarms == []
    spoil(own_ca, bad)
    again = sampling(own_ca, alarms, halt=False)
    with caplog.at_level(logging.ERROR):
        own_ca.run(again.look())
        own_ca.run(again.look())
    assert alarms == [profile]
    assert f"certificate {bad} under profile {profile}: its signature is not that of estate-issuing-1" in caplog.text
    assert good not in caplog.text
    assert own_ca.client().certificates.sign(profile, server_csr("a.test")), "halting is a switch, and it is off"


def test_with_the_switch_on_a_finding_halts_the_version_until_it_is_corrected(own_ca: RunningCa):
    profile = own_ca.new_profile()
    spoil(own_ca, own_ca.client().certificates.sign(profile, server_csr("a.test")).serial)
    alarms: list[str] = []
    own_ca.run(sampling(own_ca, alarms, halt=True).look())
    assert alarms == [profile]
    for worker in (0, 1):
        certificates_of = own_ca.client(OPERATOR, worker=worker).certificates
        assert refused(lambda c=certificates_of: c.sign(profile, server_csr("a.test"))).reason == "PROFILE_HALTED"
        assert certificates_of.sign("server", server_csr("a.test"))
    assert own_ca.client().profiles.get(profile).halted
    corrected = own_ca.client().profiles.update(profile, document(keys=["p256"]))
    assert not corrected.halted
    assert own_ca.client().certificates.sign(profile, server_csr("a.test"))


def test_certificates_are_read_again_only_after_another_one_has_entered_the_ledger(own_ca: RunningCa):
    """An idle control plane with a full ledger would read a thousand of them every five seconds."""
    sign = own_ca.client().certificates.sign
    looking = sampling(own_ca, [], halt=False)
    assert own_ca.run(looking.look()) >= 1
    reads = []
    store = looking.store
    looking.store = SimpleNamespace(read=lambda work, **how: reads.append(how) or store.read(work, **how))
    assert own_ca.run(looking.look()) == 0
    assert reads == [{"one_statement": True}]
    for count in (1, 2):
        for _ in range(count):
            sign("server", server_csr("a.test"))
        assert own_ca.run(looking.look()) == count
    assert own_ca.run(looking.look()) == 0


def test_what_the_linter_cannot_digest_is_a_finding_and_no_end(own_ca: RunningCa, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(PkilintLinter, "certificate", fail)
    alarms: list[str] = []
    assert own_ca.run(sampling(own_ca, alarms, halt=False).look()) >= 1
    assert "service" in alarms


# --- Secrets ------------------------------------------------------------------------------------------------------------


def forms(secret: bytes) -> list[bytes]:
    """A secret as it might be written down."""
    return [secret, secret.hex().encode(), base64.b64encode(secret)[:-4], base64.urlsafe_b64encode(secret)[:-4]]


def test_no_secret_is_in_the_database_the_log_or_an_error(
    own_ca: RunningCa, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    caplog.set_level(logging.DEBUG)
    key, texts = make_key(), []
    client = own_ca.client()
    signed = client.certificates.sign("server", make_csr(key, [Name.dns("a.test")]))
    client.authorities.create("second", hierarchy=Hierarchy.ESTATE, kind=AuthorityKind.ROOT, common_name="second")
    client.certificates.renew(signed.serial, make_csr(make_key()), old_key=key)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for call in (
        lambda: client.certificates.sign("server", pem),
        lambda: client.certificates.renew(signed.serial, pem),
        lambda: client.profiles.create("x", pem.decode()),
    ):
        told = refused(call)
        texts.append(repr((told.message, told.metadata, told.violations)))
    kek = own_ca.settings.kek_file.read_bytes()
    store = SealedKeyStore(kek, "keyreeve-ca")

    def everything(tx: Any) -> tuple[bytes, list[Any]]:
        connection = tx._connection
        rows = [row for table in SCHEMA.metadata.sorted_tables for row in connection.execute(select(table))]
        cells = [cell for row in rows for cell in row]
        text = b"\n".join(bytes(c) if isinstance(c, bytes | memoryview) else str(c).encode() for c in cells)
        return text, [tx.key(a.key_id) for a in tx.authorities()]

    stored, sealed = own_ca.read(everything)
    if own_ca.settings.sqlite_file is not None:
        for file in own_ca.settings.state_directory.glob(f"{own_ca.settings.sqlite_file.name}*"):
            stored += file.read_bytes()
    output = capfd.readouterr()
    places = {
        "the database": stored,
        "the log": (caplog.text + output.out + output.err).encode(),
        "the errors": "".join(texts).encode(),
    }
    secrets = {"the key-encryption key": kek, "what is derived from it": store.derive("page tokens")}
    assert len(sealed) == 5
    for one in sealed:
        private = load_der_private_key(store.unseal("key", one.key_id, one.sealed), None)
        secrets[f"key {one.key_id}"] = private.private_numbers().private_value.to_bytes(32, "big")
    own = load_key(own_ca.context(ADMIN).key)
    secrets["a caller's key"] = own.private_numbers().private_value.to_bytes(32, "big")
    secrets["a recovery key"] = own_ca.settings.recovery_key_file.read_bytes().split(b"\n")[1]
    for where, text in places.items():
        for what, secret in secrets.items():
            assert not any(form in text for form in forms(secret)), f"{what} is in {where}"
    # What was sent for a request or a document was a key, and a refusal quotes none of it.
    assert b"PRIVATE KEY" not in places["the log"] + places["the database"]
