"""The certificate of one service instance: enrolled with evidence, renewed over mutual TLS.

One process of the service keeps it; the others read the same files (`LiveIdentity`, `keyreeve.aio.Client`), which are
replaced so that they always fit.
"""

import asyncio
import random
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from cryptography import x509

from keyreeve import aio
from keyreeve.context import Context
from keyreeve.enrollee_files import EnrolleeFiles
from keyreeve.errors import ContextInvalid, FileUnusable, KeyreeveError, ServiceUnreachable, Unauthenticated
from keyreeve.files import PRIVATE, write_atomically
from keyreeve.identity import SpiffeId
from keyreeve.keys import load_certificates
from keyreeve.renewal_files import complete_renewal, discard_renewal, lock_pair, next_path
from keyreeve.values import Line
from keyreeve_chassis.identity.evidence import Evidence

LOOK_SECONDS = 60.0
"""How often it is seen whether the certificate is to be renewed."""
RETRY_SECONDS = 5.0
"""Pause after a failure."""
FIRST_RETRY_SECONDS = 0.25
"""Pause after the first failure to enroll, doubled up to `RETRY_SECONDS`: pods start together, and the CA is ready soon."""
EVIDENCE_SECONDS = 1.0
"""How often new evidence is looked for while there is no usable certificate."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ServiceIdentity:
    """The identity of an instance, `spiffe://{trust domain}/services/{service}/{instance}`, in a directory of its own."""

    identity: SpiffeId
    directory: Path
    evidence: Evidence
    now: Callable[[], float] = time.time
    """The machine's clock, in seconds since 1970."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = random.random

    async def obtain(self) -> Context:
        """The context of a usable certificate: that on disk, or a new one. Waits for evidence for as long as it takes."""
        told, retry = False, FIRST_RETRY_SECONDS
        while True:
            pause = EVIDENCE_SECONDS
            try:
                await asyncio.to_thread(self._adopt)
                if self.is_usable():
                    return Context.load(self._files.context)
                if await self.evidence.enroll(self.identity, self._new.directory):
                    continue
                if not told:
                    _log.error("there is no usable certificate and no evidence to get one", identity=str(self.identity))
                told = True
            except KeyreeveError as failure:
                _log.warning("this service could not be enrolled", identity=str(self.identity), error=str(failure))
                pause, retry = retry, min(2 * retry, RETRY_SECONDS)
            await self.sleep(pause)

    async def keep(self) -> None:
        """Keep the certificate and the bundles up to date, forever."""
        while True:
            context = await self.obtain()
            async with aio.Client(context) as client:
                renewal = aio.IdentityRenewal(context, client, now=self.now)
                refused = asyncio.Event()
                following = asyncio.create_task(self._follow_bundle(client, renewal, refused))
                try:
                    await self._keep_this(renewal, refused)
                finally:
                    following.cancel()
                    await asyncio.wait({following})

    def is_usable(self) -> bool:
        """Whether the directory holds a certificate of this identity that has not expired."""
        if not self._files.is_enrolled() or not self._files.bundle.exists():
            return False
        try:
            leaf = x509.load_der_x509_certificate(load_certificates(self._files.certificate)[0])
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (OSError, ValueError, IndexError, x509.ExtensionNotFound):
            return False
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        return uris == [str(self.identity)] and self.now() < leaf.not_valid_after_utc.timestamp()

    async def _keep_this(self, renewal: aio.IdentityRenewal, refused: asyncio.Event) -> None:
        """Renew in time; return when the certificate has expired or has been replaced on new evidence."""
        spread = self.jitter() / 10
        while self.is_usable():
            pause = LOOK_SECONDS
            try:
                await renewal.refresh_bundles()
                if await renewal.renew_when_due(spread):
                    _log.info("renewed the service's certificate", identity=str(self.identity))
                    spread = self.jitter() / 10
            except KeyreeveError as failure:
                _log.warning("the service's certificate could not be kept up to date", error=str(failure))
                pause = RETRY_SECONDS
                # Revoked, or under authorities that are gone: only new evidence helps, before it has expired, too.
                if isinstance(failure, Unauthenticated | ServiceUnreachable) and await self._enroll_again():
                    return
            await self._sleep_until(refused, pause)

    async def _sleep_until(self, refused: asyncio.Event, seconds: float) -> None:
        """Sleep for so many seconds, or until the CA service is heard to refuse this identity."""
        refused.clear()
        waiting = {asyncio.ensure_future(self.sleep(seconds)), asyncio.ensure_future(refused.wait())}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()

    async def _enroll_again(self) -> bool:
        try:
            return await self.evidence.enroll(self.identity, self._new.directory)
        except KeyreeveError as failure:
            _log.warning("this service could not be enrolled", identity=str(self.identity), error=str(failure))
            return False

    async def _follow_bundle(self, client: aio.Client, renewal: aio.IdentityRenewal, refused: asyncio.Event) -> None:
        """Write the roots when they change, not only at the next look: callers under new ones must be accepted."""
        while True:
            try:
                async for _ in client.authorities.watch_bundle(Line.CONTROL):
                    await renewal.refresh_bundles()
            except KeyreeveError as failure:
                _log.debug("the bundle could not be followed", error=str(failure))
                if isinstance(failure, Unauthenticated):
                    refused.set()
            await self.sleep(RETRY_SECONDS)

    @property
    def _files(self) -> EnrolleeFiles:
        return EnrolleeFiles(self.directory)

    @property
    def _new(self) -> EnrolleeFiles:
        """Where an enrollment happens, so that the files in use stay as they are until it is complete."""
        return EnrolleeFiles(self.directory / "enrolling")

    def _adopt(self) -> None:
        """Put the files of a complete enrollment in place; every step may be repeated after a crash."""
        files, new = self._files, self._new
        try:
            files.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not new.is_enrolled():
                return
            context = Context.load(new.context)
            with lock_pair(files.key, wait=True):
                discard_renewal(files.certificate, files.key)
                for source, target in (
                    (new.bundle, files.bundle),
                    (new.estate_bundle, files.estate_bundle),
                    (new.trust_root, files.trust_root),
                ):
                    if source.exists():
                        write_atomically(target, source.read_bytes())
                replace(
                    context,
                    bundle=files.bundle,
                    estate_bundle=files.estate_bundle,
                    certificate=files.certificate,
                    key=files.key,
                ).save(files.context)
                write_atomically(next_path(files.key), new.key.read_bytes(), PRIVATE)
                write_atomically(next_path(files.certificate), new.certificate.read_bytes())
                complete_renewal(files.certificate, files.key)
            shutil.rmtree(new.directory)
        except (OSError, ContextInvalid) as failure:
            raise FileUnusable(f"cannot put a new identity into {files.directory}: {failure}") from None
