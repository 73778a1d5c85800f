"""Latency of reads from the ledger, one call after the other, on an otherwise idle service."""

import itertools
import time
from collections.abc import Callable

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

from keyreeve import Client
from keyreeve.errors import KeyreeveError
from keyreeve_bench.recording import DIGITS, MOST_MICROSECONDS, percentiles_ms

GETS = 300
PAGES = 20
PAGE = 100


def measure_reads(client: Client, serials: bytes) -> dict[str, dict[str, float] | None]:
    """Measure GetCertificate for a sample of `serials`, and pages of 100 of ListCertificates, in milliseconds.

    A value is None when this caller may not make the call.
    """
    step = max(16, len(serials) // 16 // GETS * 16)
    some = [serials[at : at + 16].hex() for at in range(0, len(serials), step)][:GETS]
    numbers = iter(some)
    pages = client.certificates.list(page_size=PAGE)
    return {
        "get_certificate": _timed(lambda: client.certificates.get(next(numbers)), len(some)),
        # Takes exactly one page: the iterator fetches the next one when another certificate is requested.
        "list_page": _timed(lambda: list(itertools.islice(pages, PAGE)), PAGES),
    }


def _timed(call: Callable[[], object], times: int) -> dict[str, float] | None:
    histogram = HdrHistogram(1, MOST_MICROSECONDS, DIGITS)
    try:
        for _ in range(times):
            begun = time.perf_counter()
            call()
            histogram.record_value(max(1, int((time.perf_counter() - begun) * 1e6)))
    except KeyreeveError:
        return None
    return percentiles_ms(histogram)
