"""A signing path without a database: a scripted ledger, a minimal store and a small snapshot."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from keyreeve.identity import Caller, Role, SpiffeId
from keyreeve.values import AuthorityKind, AuthorityState, Hierarchy
from keyreeve_ca.authorities.ca_certificate_plan import NameConstraints
from keyreeve_ca.certificates.signers import IssuingSigner
from keyreeve_ca.issuance.batching import MAX_IN_PROGRESS
from keyreeve_ca.issuance.service import RETRY_AFTER, Issuance, SignItem, SignRequest
from keyreeve_ca.issuance.snapshot import IssuanceSnapshot, IssuingAuthority
from keyreeve_ca.ledger.ports import (
    BlockLease,
    BlockRequest,
    CommitGroup,
    Committed,
    IssuedCertificate,
    RequestOutcome,
    Rpc,
)
from keyreeve_ca.requests.key_rules import KnownKeys
from keyreeve_ca.store.ports import Authority, ControlPlaneState
from keyreeve_chassis.guard.admission import FairShare
from keyreeve_chassis.keys.ports import Signer
from support.certificate_plans import NOW, PERMISSIVE, STORE, TRUST_DOMAIN, authority, version_of

ADMIN = Caller(SpiffeId(TRUST_DOMAIN, ("operators", "admin", "ann")), Role.ADMIN, serial=1)
OTHER = Caller(SpiffeId(TRUST_DOMAIN, ("operators", "admin", "bea")), Role.ADMIN, serial=2)


async def settle() -> None:
    """Run all ready tasks of the event loop."""
    for _ in range(200):
        await asyncio.sleep(0)


@dataclass
class FakeLedger:
    """Commits groups, after awaiting `before` for each group."""

    before: Callable[[CommitGroup], None] = lambda _group: None
    found: Sequence[RequestOutcome] | None = None
    """The result of `find_group`."""
    groups: list[CommitGroup] = field(default_factory=list)
    leases: list[BlockRequest] = field(default_factory=list)
    looked_up: list[bytes] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    """Commits wait until it is set."""

    def __post_init__(self) -> None:
        self.open.set()

    async def lease_block(self, request: BlockRequest) -> BlockLease:
        self.leases.append(request)
        return BlockLease(len(self.leases), 1, 0)

    async def commit(self, group: CommitGroup) -> Sequence[RequestOutcome]:
        await self.open.wait()
        self.before(group)
        self.groups.append(group)
        return committed(group)

    async def close_block(self, block_id: int, _worker_id: str) -> bool:
        self.closed.append(block_id)
        return True

    async def find_group(self, group_id: bytes) -> Sequence[RequestOutcome] | None:
        self.looked_up.append(group_id)
        return self.found


def committed(group: CommitGroup) -> list[RequestOutcome]:
    """The outcomes of a group that is stored completely."""
    return [
        Committed(tuple(i.serial if isinstance(i, IssuedCertificate) else i for i in r.items)) for r in group.requests
    ]


class FakeTransaction:
    def control_plane(self) -> ControlPlaneState:
        return ControlPlaneState(TRUST_DOMAIN, 1, 1, b"", NOW)

    def answered_and_version(self, *_: str) -> tuple[None, int]:
        return None, self.control_plane().config_version


class FakeStore:
    async def read(self, work: Callable[[Any], Any], *, one_statement: bool = False) -> Any:
        return work(FakeTransaction())


def snapshot(signer: Signer | None = None, config_version: int = 1) -> IssuanceSnapshot:
    """One issuing CA of the estate and the profile `test`."""
    issuing = authority(Hierarchy.ESTATE)
    issuer = issuing.issuer
    row = Authority(
        authority_id=issuer.authority_id,
        hierarchy=issuer.hierarchy,
        kind=AuthorityKind.INTERMEDIATE,
        owner="",
        state=AuthorityState.ACTIVE,
        issuer_id="estate-root",
        key_id="key",
        key_type=issuer.key_type,
        certificate_der=issuer.certificate_der,
        spki_sha256=b"",
        not_before=issuer.not_before,
        not_after=issuer.not_after,
        created_at=NOW,
    )
    chain = (issuer.certificate_der,)
    signing = IssuingAuthority(row, issuer, IssuingSigner(signer or issuing.signer), chain, NameConstraints())
    return IssuanceSnapshot(
        trust_domain=TRUST_DOMAIN,
        restore_generation=1,
        config_version=config_version,
        authorities={row.authority_id: row},
        issuing={row.authority_id: signing},
        profiles={"test": version_of(PERMISSIVE)},
        known_keys=KnownKeys(blocked=frozenset(), own=frozenset()),
    )


@dataclass
class Path:
    """A signing path with its fakes."""

    ledger: FakeLedger = field(default_factory=FakeLedger)
    known: IssuanceSnapshot = field(default_factory=snapshot)
    reloads: int = 0
    admission: FairShare = field(default_factory=lambda: FairShare("certificates", MAX_IN_PROGRESS, RETRY_AFTER))

    def __post_init__(self) -> None:
        self.issuance = Issuance(
            lambda: self.known,
            self._reload,
            SimpleNamespace(found=()),
            FakeStore(),
            self.ledger,
            STORE,
            "worker",
            lambda: NOW,
            admission=self.admission,
        )

    async def _reload(self) -> None:
        self.reloads += 1

    async def sign(self, *items: SignItem, request_id: str = "1", caller: Caller = ADMIN) -> list[Any]:
        return await self.issuance.sign(SignRequest(caller, Rpc("/Sign"), request_id, b"", items))
