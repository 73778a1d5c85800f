"""The trust that a service makes of the feed of callers: views, silence, failures, and the file."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from keyreeve.caller_feed import KnownCallers, update_message
from keyreeve.caller_values import CallersUpdate, IssuingAuthority, MemberRecord, OperatorRecord
from keyreeve.errors import CallersRefused, ServiceUnreachable
from keyreeve.identity import SpiffeId
from keyreeve.values import AuthorityState, MemberState, OperatorRole
from keyreeve_chassis.guard import peers, trust
from keyreeve_chassis.guard.trust import CallerTrust
from support.peer_certificates import TRUST_DOMAIN, Hierarchies, TestCa

ANN = OperatorRecord("operators/ann", "uid-1", OperatorRole.ADMIN, 7)
ANN_ID = f"spiffe://{TRUST_DOMAIN}/operators/admin/ann"


@dataclass
class World:
    """A CA service that signs updates, and the roots that the service has."""

    path: Path | None = None
    hierarchies: Hierarchies = field(default_factory=Hierarchies.make)
    roots: tuple[x509.Certificate, ...] = ()

    def __post_init__(self) -> None:
        self.leaf = self.hierarchies.control.service("ca")
        self.roots = (self.hierarchies.control_root.certificate,)
        self.now = float(int(self.leaf.certificate.not_valid_before_utc.timestamp()) + 600)
        self.callers = KnownCallers(TRUST_DOMAIN, self.path, now=lambda: self.now)

    def trust(self, silence: float = 0.05) -> CallerTrust:
        return CallerTrust(self.callers, lambda: self.roots, silence=silence)

    def update(
        self,
        after: int,
        seq: int,
        *authorities: TestCa,
        operators: tuple[OperatorRecord, ...] = (),
        members: tuple[MemberRecord, ...] = (),
    ) -> CallersUpdate:
        made = CallersUpdate(
            1,
            after,
            seq,
            seq,
            int(self.now),
            tuple(
                IssuingAuthority(
                    f"authorities/{seq}-{n}", AuthorityState.ACTIVE, ca.certificate.public_bytes(Encoding.DER)
                )
                for n, ca in enumerate(authorities)
            ),
            operators,
            members=members,
        )
        key = load_pem_private_key(self.leaf.key_pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        chain = x509.load_pem_x509_certificates(self.leaf.chain_pem)
        return replace(
            made,
            signature=key.sign(update_message(TRUST_DOMAIN, made), ec.ECDSA(hashes.SHA256())),
            signer_der=tuple(one.public_bytes(Encoding.DER) for one in chain),
        )


class Client:
    """One that sends some updates, then fails or says nothing more."""

    def __init__(self, *updates: CallersUpdate, failure: Exception | None = None) -> None:
        self.trust = self
        self.updates = updates
        self.failure = failure
        self.asked: list[tuple[int, int]] = []
        self.closed = False

    async def watch_callers(self, restore_generation: int, after_seq: int) -> AsyncGenerator[CallersUpdate, None]:
        self.asked.append((restore_generation, after_seq))
        for update in self.updates:
            yield update
        if self.failure is not None:
            raise self.failure
        await asyncio.Event().wait()

    async def close(self) -> None:
        self.closed = True


async def follow(trust: CallerTrust, *clients: Client) -> None:
    """Follow until the last client has been asked and its updates are in."""
    waiting = iter(clients)
    last = asyncio.Event()

    def following() -> Client:
        client = next(waiting, None)
        if client is None:
            last.set()
            return Client()
        return client

    task = asyncio.create_task(trust.follow(following))
    await asyncio.wait_for(last.wait(), 10)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_PAUSE_SECONDS", (0.0, 0.01))


async def test_who_asks_for_a_member_is_told_what_the_last_update_says() -> None:
    world = World()
    trust = world.trust()
    identity = f"spiffe://{TRUST_DOMAIN}/members/web.{TRUST_DOMAIN}"
    record = MemberRecord("uid-1", identity, "arrays/one", MemberState.MEMBER, primary=True)
    assert trust.member(identity) is None
    await trust.apply(world.update(0, 1, world.hierarchies.control, members=(record,)))
    view = trust.view()
    assert trust.member(SpiffeId.parse(identity)) == record
    gone = replace(record, state=MemberState.DETACHED, primary=False)
    await trust.apply(world.update(1, 2, members=(gone,)))
    assert trust.member(identity) == gone
    assert trust.view() is view, "callers that were verified need no second look"


async def test_a_view_is_made_anew_when_something_in_it_has_changed_and_only_then() -> None:
    world = World()
    known = world.trust()
    assert (known.view().issuers, known.view().operators, known.age()) == ((), {}, float("inf"))
    await known.apply(world.update(0, 2, world.hierarchies.control, operators=(ANN,)))
    view = known.view()
    assert view.issuers == (world.hierarchies.control.certificate,)
    assert view.operators == {ANN_ID: peers.OperatorRecord("uid-1", 7)}
    assert (view.trust_domain, known.age() < 5) == (TRUST_DOMAIN, True)
    await known.apply(world.update(2, 2))
    assert known.view() is view
    await known.apply(world.update(2, 3, operators=(replace(ANN, removed=True),)))
    assert (known.view().operators, known.view().generation) == ({}, view.generation + 1)


async def test_an_issuing_ca_counts_once_a_root_above_it_is_trusted() -> None:
    world = World()
    known = world.trust()
    root = TestCa.root("control root 2")
    new = root.issuing("control issuing 2")
    await known.apply(world.update(0, 1, world.hierarchies.control, new))
    assert known.view().issuers == (world.hierarchies.control.certificate,)
    world.roots = (*world.roots, root.certificate)
    await known.apply(world.update(1, 1))
    assert known.view().issuers == (world.hierarchies.control.certificate, new.certificate)


async def test_it_goes_on_where_it_stopped_with_another_client_after_failures_and_silence() -> None:
    world = World()
    known = world.trust()
    clients = (
        Client(failure=ServiceUnreachable("no connection")),
        Client(world.update(0, 1)),
        Client(world.update(1, 3), failure=CallersRefused("not the CA's")),
        Client(world.update(5, 6)),
        Client(world.update(3, 4)),
    )
    await follow(known, *clients)
    assert [client.asked for client in clients] == [[(0, 0)], [(0, 0)], [(1, 1)], [(1, 3)], [(1, 3)]]
    assert all(client.closed for client in clients)
    assert world.callers.position == (1, 4)


async def test_it_is_complete_once_anything_is_known_from_the_feed_or_the_file(tmp_path: Path) -> None:
    path = tmp_path / "callers.json"
    world = World(path)
    known = world.trust()
    complete = asyncio.create_task(known.complete())
    await asyncio.sleep(0)
    assert not complete.done()
    await known.apply(world.update(0, 1, world.hierarchies.control))
    await asyncio.wait_for(complete, 5)
    again = CallerTrust(KnownCallers.load(TRUST_DOMAIN, path), lambda: world.roots)
    await asyncio.wait_for(again.complete(), 5)
    assert again.view().issuers == (world.hierarchies.control.certificate,)


async def test_a_disk_that_is_full_does_not_keep_what_is_new_from_counting(tmp_path: Path) -> None:
    world = World(tmp_path / "no-such-directory" / "callers.json")
    known = world.trust()
    await known.apply(world.update(0, 1, operators=(ANN,)))
    assert set(known.view().operators or ()) == {ANN_ID}
