"""One client process of a benchmark: `python -m keyreeve_bench.client`, driven by its parent.

It reads its orders from standard input, connects, reports readiness, and calls from the given start time on. It is a
fresh interpreter, because gRPC does not survive a fork.
"""

import asyncio
import gc
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

from keyreeve import retry
from keyreeve.context import Context
from keyreeve.errors import KeyreeveError
from keyreeve_bench import corpus, messages
from keyreeve_bench.acknowledgements import Acknowledged, AcknowledgementFile
from keyreeve_bench.calling import Answer, Calls, GrpcCalls, SdkCalls, outcome_is_unknown, pause_after
from keyreeve_bench.children import Parent, serve_parent
from keyreeve_bench.recording import Counts
from keyreeve_bench.request_ids import marked_ids
from keyreeve_bench.timeline import Phase, Timeline

SAMPLES = 16
"""Responses that a process keeps for verification with OpenSSL."""
PROGRESS_SECONDS = 0.25


class LoadClient:
    """Calls the service through the phases of a timeline and counts the results."""

    def __init__(
        self, orders: dict[str, Any], calls: Calls, timeline: Timeline, kept: AcknowledgementFile | None
    ) -> None:
        self._orders = orders
        self._calls = calls
        self._batch: int = orders["batch"]
        self._timeline = timeline
        self._kept = kept
        self._new_id = marked_ids(orders["marker"], orders["process"])
        self._counts = {phase.name: Counts(phase.seconds) for phase in timeline.phases}
        self._samples: list[dict[str, Any]] = []
        self._sample_at = 0.0
        self.serials = bytearray()
        self.unknown = 0
        self.repeated = 0
        self.acknowledged = 0

    async def run(self, parent: Parent) -> dict[str, Any]:
        """Call until the last phase is over and no call is in flight; return the counts."""
        most = max(phase.in_flight for phase in self._timeline.phases)
        telling = asyncio.create_task(self._tell(parent))
        try:
            async with asyncio.TaskGroup() as group:
                for index in range(most):
                    group.create_task(self._caller(index))
        finally:
            telling.cancel()
        return {
            "phases": {
                phase.name: self._counts[phase.name].to_document(phase.unsent) for phase in self._timeline.phases
            },
            "acknowledged": self.acknowledged,
            "unknown": self.unknown,
            "repeated": self.repeated,
            "samples": self._samples,
        }

    async def _caller(self, index: int) -> None:
        while True:
            now = time.monotonic()
            phase = self._timeline.at(now)
            if phase is None:
                return
            if now < phase.start:
                await asyncio.sleep(phase.start - now)
            elif index >= phase.in_flight:
                await asyncio.sleep(phase.end - now)
            elif phase.rate is None:
                await self._call(index, now, phase)
            else:
                due = phase.next_due()
                # Late is late: a call that could not begin when it was due has been waiting since then.
                await asyncio.sleep(max(0.0, min(due, phase.end) - now))
                if due < phase.end:
                    await self._call(index, due, phase)

    async def _call(self, index: int, due: float, begun_in: Phase) -> None:
        request, request_id = self._calls.take(), self._new_id()
        while True:
            try:
                answer = await self._calls.call(index, request, request_id)
                break
            except KeyreeveError as failure:
                now = time.monotonic()
                phase = self._timeline.at(now) or begun_in
                if now < phase.end:
                    self._counts[phase.name].failed(failure.code, failure.reason, self._batch, now - due)
                if self._orders["repeat"] and retry.is_transient(failure):
                    self.repeated += 1
                    await asyncio.sleep(pause_after(failure))
                    continue
                if outcome_is_unknown(failure):
                    self.unknown += self._batch
                if begun_in.rate is None:
                    await asyncio.sleep(pause_after(failure))
                return
        now = time.monotonic()
        if self._kept is not None:
            await self._kept.keep(_acknowledged(request_id, answer, self._batch))
        self._note(answer, now, due)

    def _note(self, answer: Answer, now: float, due: float) -> None:
        count = len(answer.serials)
        self.acknowledged += count
        self.serials += bytes.fromhex(b"".join(answer.serials).decode())
        phase = self._timeline.at(now)
        if phase is None:
            return
        counts = self._counts[phase.name]
        if count:
            counts.answered(count, now - due, now - phase.start)
        for status, reason in answer.failures:
            counts.failed(status, reason, 1, now - due)
        if now >= self._sample_at and len(self._samples) < SAMPLES:
            # Spread over the time of the run, the first ones included.
            first, last = self._timeline.phases[0].start, self._timeline.phases[-1].end
            self._sample_at = now + (last - first) / SAMPLES
            self._samples.append(_sample(answer))

    async def _tell(self, parent: Parent) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            phase = self._timeline.at(time.monotonic())
            failed = sum(sum(counts.errors.values()) for counts in self._counts.values())
            parent.tell({"phase": phase.name if phase else "end", "acknowledged": self.acknowledged, "failed": failed})


def _acknowledged(request_id: str, answer: Answer, batch: int) -> list[Acknowledged]:
    certificates = answer.certificates or messages.certificates_in(answer.raw, batch)
    return [
        Acknowledged(request_id, serial.decode(), der)
        for serial, (der, _) in zip(answer.serials, certificates, strict=True)
    ]


def _sample(answer: Answer) -> dict[str, Any]:
    return {
        "raw": b64encode(answer.raw).decode(),
        "certificates": [
            [b64encode(der).decode(), [b64encode(above).decode() for above in chain]]
            for der, chain in answer.certificates
        ],
    }


def _calls(orders: dict[str, Any], csrs: list[bytes]) -> Calls:
    if orders["client"] == "https":
        from keyreeve_bench.baselines.https import HttpsCalls

        return HttpsCalls(Path(orders["context"]), csrs, timeout=orders["timeout"])
    context = Context.load(orders["context"])
    if orders["client"] == "sdk":
        return SdkCalls(context, orders["profile"], csrs, coalesce=orders["coalesce"], timeout=orders["timeout"])
    return GrpcCalls(
        context,
        messages.prepare(orders["profile"], csrs, orders["batch"]),
        batch=orders["batch"],
        connections=orders["connections"],
        timeout=orders["timeout"],
    )


async def load(orders: dict[str, Any], parent: Parent) -> dict[str, Any]:
    """Carry out the parent's orders."""
    csrs = corpus.load(Path(orders["corpus"]))
    # Each process starts at another request of the corpus, so that they do not send the same one at once.
    begin = len(csrs) * orders["process"] // orders["processes"]
    csrs = csrs[begin:] + csrs[:begin]
    calls = _calls(orders, csrs)
    await calls.connect()
    gc.collect()
    gc.freeze()  # keep the corpus out of garbage collections
    gc.set_threshold(20_000, 50, 50)
    timeline = Timeline(orders["phases"], await parent.ready())
    kept = AcknowledgementFile(Path(orders["acknowledgements"])) if orders["acknowledgements"] else None
    client = LoadClient(orders, calls, timeline, kept)
    try:
        result = await client.run(parent)
    finally:
        await calls.close()
        if kept is not None:
            kept.close()
    if orders["serials"]:
        await asyncio.to_thread(Path(orders["serials"]).write_bytes, client.serials)
    return result


if __name__ == "__main__":
    serve_parent(load)
