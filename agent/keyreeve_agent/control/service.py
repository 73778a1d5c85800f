"""The agent's loop: report, load what the control plane says, acknowledge once it is loaded.

An epoch is acknowledged after the peer port has answered a ping of this member itself with it, and every local program
presents the certificate of the same set. Without the control plane everything goes on with what is loaded.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from keyreeve.errors import (
    DeadlinePassed,
    FailedPrecondition,
    KeyreeveError,
    MemberExists,
    MemberNotFound,
    PeerMaterialWrong,
    Unavailable,
)
from keyreeve.keys import make_csr, make_key
from keyreeve.membership_values import ArrayView as ReportedView
from keyreeve.membership_values import Epoch, Instruction, Server, Status
from keyreeve.values import KeyType, MemberState, Name
from keyreeve_agent.control.pacing import retry_seconds, spread_seconds
from keyreeve_agent.control.ports import ControlPlane
from keyreeve_agent.material.directory import MaterialDirectory
from keyreeve_agent.material.epochs import SeenEpoch, walk_forward
from keyreeve_agent.material.fitting import check_material, crls_of
from keyreeve_agent.material.roll_file import RollFile
from keyreeve_agent.material.seen_epochs import SeenEpochs
from keyreeve_agent.material.values import Material
from keyreeve_agent.peers.rounds import PeerRounds, PeersDialed, reported_peers
from keyreeve_agent.peers.view import ArrayView
from keyreeve_agent.programs.sessions import ServerSessions

CRL_SECONDS = 30.0
"""Interval of fetching the CRLs."""
_UNSETTLED_SECONDS = 1.0
"""Between reports while this server is on its way into an array or out of it."""
_SETTLED = frozenset({MemberState.STANDALONE, MemberState.MEMBER, MemberState.QUARANTINED, MemberState.DETACHED})
_SELF_SECONDS = 5.0
"""How long the peer port may take to present what has been loaded."""
_PAUSE = 1.0
"""After a stream of the control plane has failed."""

_log = structlog.get_logger(__name__)


class PeerPort(Protocol):
    """The peer port of this member."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


class Peers(PeersDialed, Protocol):
    """Dials peers, this member among them."""

    async def reach_self(self) -> None:
        """Raise `keyreeve.errors` unless this member's own port presents and accepts what is loaded."""
        ...


class Programs(Protocol):
    """The local programs."""

    async def load(self, material: Material) -> dict[str, str]:
        """Tell them of material; return why not, by program."""
        ...


@dataclass
class MemberLoop:
    """The loop of one member. Belongs to one event loop."""

    control: ControlPlane
    view: ArrayView
    server: Server
    directory: MaterialDirectory
    seen: SeenEpochs
    roll_file: RollFile
    port: PeerPort
    peers: Peers
    programs: Programs
    sessions: Callable[[], Awaitable[ServerSessions | None]]
    publish: Callable[[], None] = lambda: None
    """Called when the view has changed, for `keyreeve-agent status`."""
    key_type: KeyType = KeyType.P256
    now: Callable[[], float] = time.time
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random
    _failures: int = 0
    """In a row."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _renew: bool = False
    _unsecured: bool = False
    """Without peer security nothing is loaded, and what was loaded before says nothing of the array."""
    _acknowledged: tuple[str, int, int] | None = None
    _crls_at: float = float("-inf")
    _followed: str = ""
    _following: list["asyncio.Task[None]"] = field(default_factory=list)

    def renew_now(self) -> None:
        """Get a new peer certificate for a new key soon, whatever its age."""
        self._renew = True
        self._wake.set()

    async def run(self) -> None:
        """Go on forever."""
        await self._resume()
        dialing = asyncio.create_task(PeerRounds(self.view, self.peers, self.publish, self.clock).run())
        try:
            while True:
                pause = await self._step()
                self.publish()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                    await asyncio.sleep(spread_seconds(len(self.view.roll), self.jitter()))
                self._wake.clear()
        finally:
            for task in (dialing, *self._following):
                task.cancel()
            await self.port.stop()

    async def _resume(self) -> None:
        """Serve with what is on disk before the control plane has said anything."""
        self.view.follow_roll(self.roll_file.read())
        try:
            material = await asyncio.to_thread(self.directory.read)
            if material is None:
                return
            check_material(material, self.view.name)
        except PeerMaterialWrong as failure:
            _log.warning("the peer material on disk is not used", error=failure.message)
            return
        self.view.load(material)
        await self.port.start()
        self._follow(material.epoch.array)
        _log.info("serving with the peer material on disk", array=material.epoch.array, epoch=material.epoch.epoch)

    async def _step(self) -> float:
        """One report and what it brings about; the seconds until the next."""
        try:
            instruction = await self._report()
        except KeyreeveError as failure:
            if isinstance(failure, Unavailable | DeadlinePassed):
                self._say_unreachable(failure)
            else:
                _log.warning("the control plane refuses this server's report", error=_said(failure))
                self.view.note("report", _said(failure))
            return self._retry() if failure.retry_after is None else failure.retry_after.total_seconds()
        try:
            self._unsecured = not instruction.peer_security
            if self._unsecured:
                await self.port.stop()
                self._follow(instruction.array)
            elif await self._update(instruction):
                await self._report()
            self.view.note("material", None)
        except KeyreeveError as failure:
            if self.view.problems.get("material") != _said(failure):
                _log.warning("the peer material could not be brought up to date", error=_said(failure))
            self.view.note("material", _said(failure))
            return self._retry()
        self._failures = 0
        settled = instruction.member.state in _SETTLED
        return float(max(1, instruction.interval_seconds)) if settled else _UNSETTLED_SECONDS

    def _retry(self) -> float:
        self._failures += 1
        return retry_seconds(len(self.view.roll), self._failures, self.jitter())

    async def _report(self) -> Instruction:
        status = await self._status()
        try:
            instruction = await self.control.report(status)
        except MemberNotFound:
            with contextlib.suppress(MemberExists):
                await self.control.create_array()
            instruction = await self.control.report(status)
        if "control_plane" in self.view.problems:
            _log.info("the control plane answers again")
        self.view.note("control_plane", None)
        self.view.note("report", None)
        self.view.heard_at = self.now()
        return instruction

    def _say_unreachable(self, failure: KeyreeveError) -> None:
        if "control_plane" not in self.view.problems:
            _log.warning("the control plane does not answer: what is loaded stays in use", error=_said(failure))
        loaded = self.view.loaded
        ends = "" if loaded is None else f"; the peer certificate ends {loaded.certificate.not_valid_after_utc:%FT%TZ}"
        self.view.note("control_plane", f"{_said(failure)}{ends}")

    async def _status(self) -> Status:
        loaded, view, found = self.view.loaded, None, None
        with contextlib.suppress(KeyreeveError):
            found = await self.sessions()
        if loaded is not None and self.view.primary and not self._unsecured:
            epoch = loaded.material.epoch
            members = tuple(f"members/{one.name}" for one in self.view.members if one.array == epoch.array)
            view = ReportedView(epoch.array, f"members/{self.view.primary}", members, epoch.epoch, epoch.digest)
        return Status(
            boot_id=self.view.boot_id,
            time=datetime.fromtimestamp(self.now(), UTC),
            release=self.server.release,
            address=self.server.address,
            external_names=self.server.external_names,
            view=view,
            peers=reported_peers(self.view.reached),
            certificate="" if loaded is None else f"certificates/{loaded.certificate.serial_number:032x}",
            authority="" if loaded is None else loaded.material.authority,
            certificate_not_after=None if loaded is None else loaded.certificate.not_valid_after_utc,
            running_sessions=None if found is None else found.running,
            suspended_sessions=None if found is None else found.suspended,
            stopped=found is not None and found.stopped,
        )

    # --- Loading ------------------------------------------------------------------------------------------------------

    async def _update(self, instruction: Instruction) -> bool:
        """Load what is new and acknowledge it; whether anything was loaded."""
        self._follow(instruction.array)
        material = await self._wanted(instruction)
        loaded = None if self.view.loaded is None else self.view.loaded.material
        changed = material != loaded
        if changed:
            check_material(material, self.view.name)
            await asyncio.to_thread(self.directory.write, material)
            self.view.load(material)
            _log.info("loaded peer material", array=material.epoch.array, epoch=material.epoch.epoch)
        await self.port.start()  # it may have been stopped while peer security was off
        place = (material.epoch.array, material.epoch.restore_generation, material.epoch.epoch)
        if changed or self._acknowledged != place:
            await self._prove_loaded(material)
            epoch = material.epoch
            await self.control.acknowledge(epoch.array, self.view.boot_id, epoch.epoch, epoch.digest)
            self._acknowledged = place
        return changed

    async def _prove_loaded(self, material: Material) -> None:
        """Raise unless every TLS stack of this member has loaded the material."""
        await self._wait_for_own_port()
        failed = await self.programs.load(material)
        for name in {*failed, *self._failed_programs()}:
            self.view.note(f"program {name}", failed.get(name))
        if failed:
            raise FailedPrecondition("; ".join(failed.values()))

    def _failed_programs(self) -> list[str]:
        return [one.partition(" ")[2] for one in self.view.problems if one.startswith("program ")]

    async def _wait_for_own_port(self) -> None:
        """The port fetches the certificate at its next handshake, and the roll may still be on its way."""
        ends = self.clock() + _SELF_SECONDS
        while True:
            try:
                await self.peers.reach_self()
            except KeyreeveError:
                if self.clock() > ends:
                    raise
                await asyncio.sleep(0.05)
            else:
                return

    async def _wanted(self, instruction: Instruction) -> Material:
        loaded = None if self.view.loaded is None else self.view.loaded.material
        epoch = await self._epoch(instruction, None if loaded is None else loaded.epoch)
        names = {one.name for one in epoch.authorities}
        if loaded is not None and loaded.authority in names and not self._needs_certificate(loaded, instruction):
            base = loaded
        else:
            base = await self._certified(instruction, epoch, loaded)
        crls = await self._crls(epoch, loaded)
        return Material(base.certificate_der, base.key_pem, base.authority, epoch, crls, base.renew_at)

    def _needs_certificate(self, loaded: Material, instruction: Instruction) -> bool:
        if instruction.member.state is MemberState.QUARANTINED:
            self._renew = True  # what it has is revoked: once it is readmitted, it needs another one
            return False
        due = loaded.renew_at if instruction.renew_at is None else instruction.renew_at.timestamp()
        own, trust = self.view.loaded, self.view.trust
        revoked = own is not None and trust is not None and own.is_revoked(trust.revoked)
        return self._renew or revoked or loaded.authority != instruction.authority or self.now() >= due

    async def _epoch(self, instruction: Instruction, loaded: Epoch | None) -> Epoch:
        """The newest epoch, once every one up to it has been checked and the highest is on disk."""
        if loaded is not None and (loaded.array, loaded.epoch) == (instruction.array, instruction.epoch):
            return loaded
        seen = await asyncio.to_thread(self.seen.of, instruction.array)
        newest = await self.control.newest_epoch(instruction.array)
        offered = [newest]
        if seen is not None and newest.epoch > seen.epoch + 1 and newest.restore_generation == seen.restore_generation:
            offered = await self.control.epochs(instruction.array, seen.epoch + 1)
        walk_forward(seen, offered)
        await asyncio.to_thread(self.seen.keep, instruction.array, SeenEpoch.of(offered[-1]))
        return offered[-1]

    async def _certified(self, instruction: Instruction, epoch: Epoch, loaded: Material | None) -> Material:
        """A certificate for a new key; the loaded one if there is none yet and it fits the epoch."""
        key = make_key(self.key_type)
        csr = make_csr(key, [Name.dns(self.view.name)], common_name=self.view.name)
        try:
            issued = await self.control.issue(csr)
        except KeyreeveError:
            if loaded is None or loaded.authority not in {one.name for one in epoch.authorities}:
                raise
            _log.warning("there is no new peer certificate yet; the present one stays in use")
            return loaded
        self._renew = False
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        due = issued.renew_at if instruction.renew_at is None else max(issued.renew_at, instruction.renew_at)
        return Material(issued.certificate_der, pem, issued.authority, epoch, (), int(due.timestamp()))

    async def _crls(self, epoch: Epoch, loaded: Material | None) -> tuple[bytes, ...]:
        same = loaded is not None and loaded.epoch == epoch
        if same and loaded is not None and self.clock() - self._crls_at < CRL_SECONDS:
            return loaded.crls_der
        found: list[bytes] = []
        try:
            for authority in epoch.authorities:
                found += await self.control.crls(authority.name)
        except KeyreeveError as failure:
            _log.debug("the CRLs could not be fetched", error=_said(failure))
            return () if loaded is None else crls_of(loaded.crls_der, epoch)
        self._crls_at = self.clock()
        return tuple(found)

    # --- Following ----------------------------------------------------------------------------------------------------

    def _follow(self, array: str) -> None:
        """Follow the roll and the epochs of this array, and of no other."""
        if array == self._followed:
            return
        for task in self._following:
            task.cancel()
        self._followed = array
        self._following = [asyncio.create_task(self._again(one, array)) for one in (self._roll, self._epochs)]

    async def _again(self, follow: Callable[[str], Coroutine[Any, Any, None]], array: str) -> None:
        while True:
            try:
                await follow(array)
            except KeyreeveError as failure:
                _log.debug("a stream of the control plane failed", error=_said(failure))
            except Exception:  # noqa: BLE001 - whatever it is, following goes on, and the log has it
                _log.exception("following the array failed")
            # A server that has been detached may not follow the array any more: the next report says where it belongs.
            self._wake.set()
            await asyncio.sleep(_PAUSE)

    async def _roll(self, array: str) -> None:
        async for roll in self.control.follow_roll(array):
            if roll != self.view.roll:
                self.view.follow_roll(roll)
                self.publish()
                try:
                    await asyncio.to_thread(self.roll_file.write, roll)
                except OSError as failure:
                    _log.warning("the roll could not be written", error=str(failure))
                self._wake.set()

    async def _epochs(self, array: str) -> None:
        async for epoch in self.control.follow_epochs(array):
            loaded = None if self.view.loaded is None else self.view.loaded.material.epoch
            if loaded is None or loaded.array != array:
                self._wake.set()
                continue
            try:
                walk_forward(SeenEpoch.of(loaded), [epoch] if epoch.epoch <= loaded.epoch + 1 else [])
                self.view.note("bundle", None)
            except KeyreeveError as failure:
                _log.error("the control plane offers a bundle that is refused", error=_said(failure))
                self.view.note("bundle", _said(failure))
            if epoch.epoch != loaded.epoch:
                self._wake.set()


def _said(failure: KeyreeveError) -> str:
    return f"{failure.reason}: {failure.message}"
