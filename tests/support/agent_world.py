"""Arrays, a control plane that says what a test says, and agents in this process on addresses of their own."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from keyreeve.errors import ClonedMember, KeyreeveError, MemberNotFound, ServiceUnreachable
from keyreeve.membership_values import (
    AuthorityUse,
    BundleAuthority,
    Epoch,
    Instruction,
    Member,
    PeerCertificate,
    Server,
    Status,
)
from keyreeve.trusted_certificates import bundle_digest
from keyreeve.values import MemberState
from keyreeve_agent.control.client import roll_member
from keyreeve_agent.control.service import MemberLoop
from keyreeve_agent.material.directory import MaterialDirectory
from keyreeve_agent.material.roll_file import RollFile
from keyreeve_agent.material.seen_epochs import SeenEpochs
from keyreeve_agent.material.values import Material, RollMember
from keyreeve_agent.peers.dialing import PeerDialer
from keyreeve_agent.peers.server import PeerServer
from keyreeve_agent.peers.servicer import PeerServicer
from keyreeve_agent.peers.view import ArrayView
from support.peer_certificates import TRUST_DOMAIN, Leaf, TestCa

ISSUE, ACCEPT, CHECK = AuthorityUse.ISSUE, AuthorityUse.ACCEPT, AuthorityUse.CHECK
ARRAY = "arrays/one"
_ids = itertools.count(1)


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@dataclass
class TestArrayCa:
    """The CA of an array."""

    __test__ = False
    name: str
    ca: TestCa
    use: AuthorityUse = ISSUE
    revoked: list[int] = field(default_factory=list)

    @classmethod
    def make(cls, use: AuthorityUse = ISSUE) -> "TestArrayCa":
        name = f"array-{next(_ids)}"
        return cls(f"authorities/{name}", TestCa.root(name), use)

    @property
    def der(self) -> bytes:
        return self.ca.certificate.public_bytes(Encoding.DER)

    def entry(self) -> BundleAuthority:
        return BundleAuthority(self.name, self.der, self.use)

    def peer(self, name: str, **changes: object) -> Leaf:
        return self.ca.leaf(dns=[name], common_name=name, **changes)  # type: ignore[arg-type]

    def check(self, name: str = f"x1.probe.{TRUST_DOMAIN}") -> Leaf:
        """A `peer-check` certificate."""
        return self.ca.leaf(dns=[name], usages=[ExtendedKeyUsageOID.CLIENT_AUTH])

    def crl(self) -> bytes:
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.ca.certificate.subject)
        builder = builder.last_update(now()).next_update(now() + timedelta(days=1))
        for serial in self.revoked:
            one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now()).build()
            builder = builder.add_revoked_certificate(one)
        return builder.sign(self.ca.key, hashes.SHA256()).public_bytes(Encoding.DER)


def epoch_of(number: int, *cas: TestArrayCa, before: Epoch | None = None, array: str = ARRAY) -> Epoch:
    authorities = tuple(sorted((one.entry() for one in cas), key=lambda one: one.certificate_der))
    digest = bundle_digest(one.certificate_der for one in authorities)
    previous = b"" if before is None else before.digest
    return Epoch(array, 1, number, digest, previous, authorities, "", now())


def material_of(leaf: Leaf, ca: TestArrayCa, epoch: Epoch, crls: tuple[bytes, ...] = ()) -> Material:
    der = leaf.certificate.public_bytes(Encoding.DER)
    return Material(der, leaf.key_pem, ca.name, epoch, crls, int((now() + timedelta(hours=8)).timestamp()))


def member_of(name: str, address: str = "127.0.0.1:1", **changes: object) -> RollMember:
    made = RollMember(name, f"uid-{name}", ARRAY, "", MemberState.MEMBER, primary=False, address=address)
    return replace(made, **changes)  # type: ignore[arg-type]


@dataclass
class ArrayState:
    """One array of the control plane."""

    name: str
    cas: list[TestArrayCa]
    epochs: list[Epoch]

    @property
    def issuing(self) -> TestArrayCa:
        return next(one for one in self.cas if one.use is ISSUE)

    def next_epoch(self, *cas: TestArrayCa) -> Epoch:
        self.cas = list(cas)
        last = self.epochs[-1]
        self.epochs.append(epoch_of(last.epoch + 1, *cas, before=last, array=self.name))
        return self.epochs[-1]


@dataclass
class World:
    """The control plane."""

    arrays: dict[str, ArrayState] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    silent: bool = False
    """Whether it answers nothing."""
    issues: bool = True
    crls: bool = True
    cloned: str = ""
    peer_security: bool = True
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    acknowledged: list[tuple[str, str, int, bytes]] = field(default_factory=list)
    reports: dict[str, Status] = field(default_factory=dict)
    issued: list[x509.Certificate] = field(default_factory=list)
    renew_after: timedelta = timedelta(hours=8)
    renew_at: datetime | None = None
    """What members are told."""
    revision: int = 0

    def change(self) -> None:
        self.revision += 1
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def new_array(self, name: str) -> ArrayState:
        ca = TestArrayCa.make()
        self.arrays[name] = ArrayState(name, [ca], [epoch_of(1, ca, array=name)])
        return self.arrays[name]

    def enter(self, name: str, address: str) -> None:
        """Enter a server: the primary of an array of one."""
        array = self.new_array(f"arrays/of-{name.partition('.')[0]}-{next(_ids)}").name
        self.put(name, array, MemberState.STANDALONE, primary=True, address=address)

    def put(self, name: str, array: str, state: MemberState, *, primary: bool = False, address: str = "") -> None:
        known = self.members.get(name)
        self.members[name] = Member(
            f"members/{name}",
            f"uid-{name}",
            array,
            "",
            state,
            primary,
            address or (known.address if known else ""),
            (),
            "1.0",
            now(),
            self.revision,
            None,
        )
        self.change()

    def of(self, name: str) -> ArrayState:
        return self.arrays[self.members[name].array]


@dataclass
class TestControl:
    """`ControlPlane` of one member."""

    __test__ = False
    world: World
    server: Server

    @property
    def name(self) -> str:
        return self.server.name.partition("/")[2]

    def _answer(self) -> None:
        if self.world.silent:
            raise ServiceUnreachable("nobody answers")

    async def create_array(self) -> None:
        self._answer()
        self.world.enter(self.name, self.server.address)

    async def report(self, status: Status) -> Instruction:
        self._answer()
        member = self.world.members.get(self.name)
        if member is None:
            raise MemberNotFound("there is no such member")
        self.world.reports[self.name] = status
        if self.world.cloned == self.name:
            raise ClonedMember("two starts of this server report in turn")
        array = self.world.of(self.name)
        return Instruction(
            member,
            array.name,
            array.epochs[-1].epoch,
            array.issuing.name,
            self.world.renew_at,
            1,
            now(),
            peer_security=self.world.peer_security,
        )

    async def epochs(self, array: str, from_epoch: int) -> list[Epoch]:
        self._answer()
        return [one for one in self.world.arrays[array].epochs if one.epoch >= from_epoch]

    async def newest_epoch(self, array: str) -> Epoch:
        self._answer()
        return self.world.arrays[array].epochs[-1]

    async def acknowledge(self, array: str, boot_id: str, epoch: int, digest: bytes) -> None:
        self._answer()
        self.world.acknowledged.append((self.name, array, epoch, digest))

    async def issue(self, csr: bytes) -> PeerCertificate:
        self._answer()
        if not self.world.issues:
            raise KeyreeveError("not now")
        request, ca = x509.load_der_x509_csr(csr), self.world.of(self.name).issuing
        certificate = ca.peer(self.name, key=_Certified(request)).certificate
        self.world.issued.append(certificate)
        return PeerCertificate(
            f"certificates/{certificate.serial_number:032x}",
            certificate.public_bytes(Encoding.DER),
            ca.name,
            certificate.not_valid_after_utc,
            now() + self.world.renew_after,
        )

    async def crls(self, authority: str) -> tuple[bytes, ...]:
        self._answer()
        if not self.world.crls:
            raise ServiceUnreachable("the CA does not answer")
        [ca] = [one for array in self.world.arrays.values() for one in array.cas if one.name == authority]
        return (ca.crl(),)

    async def follow_roll(self, array: str) -> AsyncIterator[dict[str, RollMember]]:
        while True:
            self._answer()
            changed = self.world.changed
            yield {name: roll_member(one) for name, one in self.world.members.items()}
            await changed.wait()

    async def follow_epochs(self, array: str) -> AsyncIterator[Epoch]:
        while True:
            self._answer()
            changed = self.world.changed
            yield self.world.arrays[array].epochs[-1]
            await changed.wait()


@dataclass
class _Certified:
    """Stands in for a key where only its public half is used."""

    request: x509.CertificateSigningRequest

    def public_key(self) -> object:
        return self.request.public_key()


@dataclass
class Programs:
    """Local programs that take what they are given, or not."""

    failed: dict[str, str] = field(default_factory=dict)
    loaded: list[Material] = field(default_factory=list)

    async def load(self, material: Material) -> dict[str, str]:
        self.loaded.append(material)
        return self.failed


@dataclass
class TestAgent:
    """An agent in this process."""

    __test__ = False
    view: ArrayView
    loop: MemberLoop
    dialer: PeerDialer
    programs: Programs
    directory: Path
    task: "asyncio.Task[None]"

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})


def start_agent(world: World, name: str, address: str, directory: Path) -> TestAgent:
    """Start an agent of the world."""
    directory.mkdir(parents=True, exist_ok=True)
    view = ArrayView(name, TRUST_DOMAIN, f"boot-{next(_ids)}")
    server = Server(f"members/{name}", address, "1.0")
    material, programs = MaterialDirectory(directory / "peer"), Programs()
    dialer = PeerDialer(view, material.current.resolve, lambda: address)

    async def sessions() -> None:
        return None

    loop = MemberLoop(
        control=TestControl(world, server),
        view=view,
        server=server,
        directory=material,
        seen=SeenEpochs(directory / "epochs.json"),
        roll_file=RollFile(directory / "roll.json"),
        port=PeerServer(view, PeerServicer(view), address),
        peers=dialer,
        programs=programs,
        sessions=sessions,
    )
    return TestAgent(view, loop, dialer, programs, directory, asyncio.create_task(loop.run()))


@asynccontextmanager
async def agents(world: World, directory: Path, **addresses: str) -> AsyncIterator[dict[str, TestAgent]]:
    """Agents `{name}.example.test`, by the first label of their names."""
    started = {
        label: start_agent(world, f"{label}.{TRUST_DOMAIN}", address, directory / label)
        for label, address in addresses.items()
    }
    try:
        yield started
    finally:
        for one in started.values():
            await one.stop()
