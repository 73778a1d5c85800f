"""How long the ledger takes to be read, one call after the other, when nothing else goes on."""

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
    """Milliseconds of GetCertificate for numbers spread over `serials`, and of pages of 100 of ListCertificates.

    None for what this caller may not read.
    """
    step = max(16, len(serials) // 16 // GETS * 16)
    some = [serials[at : at + 16].hex() for at in range(0, len(serials), step)][:GETS]
    numbers = iter(some)
    pages = client.certificates.list(page_size=PAGE)
    return {
        "get_certificate": _timed(lambda: client.certificates.get(next(numbers)), len(some)),
        # Each asks for one page, and takes all of it: the next one is asked for when the next certificate is wanted.
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
