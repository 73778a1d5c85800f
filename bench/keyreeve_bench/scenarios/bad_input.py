"""`bad-input`: 1,000 invalid requests per second beside valid single calls at a tenth of the capacity.

Only a tenth, because 1,000 refusals per second with their audit records already use most of two cores. The invalid requests
alternate between random octets, an invalid signature and a reserved name, and come from another identity. Runs without and
with them alternate.
"""

import os
from pathlib import Path
from typing import Any

from keyreeve.keys import make_csr, make_key
from keyreeve.values import Name
from keyreeve_bench import corpus
from keyreeve_bench.control_planes import control_plane
from keyreeve_bench.recording import Tally
from keyreeve_bench.scenarios.scenario import Figure, Place, ratio
from keyreeve_bench.scenarios.tool import Tool, errors_of, opened, together

BAD_PER_SECOND = 1000.0
GOOD_PART = 0.1
KINDS = 3
_MOST_IN_FLIGHT = 512
_OF_EACH = 128


def run(place: Place) -> tuple[list[Figure], dict[str, Any]]:
    """Measure the valid calls with and without the invalid ones. Raises `keyreeve.errors`."""
    with control_plane(place.directory, place.database) as state_directory:
        tool = Tool(state_directory, place.directory)
        requests = place.directory / "bad"
        write_bad(requests, "bench.localhost")
        capacity = tool.capacity("unary", place.duration).rate
        good = tool.singles(*opened(place.duration, _MOST_IN_FLIGHT, capacity * GOOD_PART))
        bad = tool.singles(
            *opened(place.duration, _MOST_IN_FLIGHT, BAD_PER_SECOND), context=tool.another("broken"), requests=requests
        )
        without: list[Tally] = []
        beside: list[Tally] = []
        refused: list[Tally] = []
        for _ in range(place.runs):
            without.append(tool.go(good)[0].measured)
            with_bad, refusals = tool.go(good, bad)
            beside.append(with_bad.measured)
            refused.append(refusals.measured)
    of_bad, before, after = together(refused), together(without).latency_ms(), together(beside).latency_ms()
    details = {
        "capacity_per_second": round(capacity, 1),
        "good_per_second": round(capacity * GOOD_PART, 1),
        "without_ms": before,
        "beside_ms": after,
        "good_errors": errors_of(together(beside)),
        "bad_refused": errors_of(of_bad),
        "bad_signed": of_bad.certificates,
        "bad_not_sent": of_bad.unsent,
    }
    figures = [
        Figure("p99 of valid calls without invalid ones", before["p99"], "ms"),
        Figure("p99 of valid calls beside invalid ones", after["p99"], "ms"),
        Figure("p99 beside / without", ratio(after["p99"], before["p99"]), at_most=2.0),
        Figure("invalid requests refused per second", round(sum(of_bad.errors.values()) / of_bad.seconds, 1)),
        Figure("invalid requests that were signed", float(of_bad.certificates), at_most=0.0),
    ]
    return figures, details


def write_bad(file: Path, trust_domain: str) -> None:
    """Write requests that must be refused, alternating between the kinds."""
    key = make_key()
    bad: list[bytes] = []
    for number in range(_OF_EACH):
        whole = make_csr(key, [Name.dns(f"bad-{number}.bench.example.test")])
        reserved = make_csr(key, [Name.dns(f"ca-{number}.svc.{trust_domain}")])
        # The last octet belongs to the signature: the request parses, and its signature is invalid.
        bad += [os.urandom(len(whole)), whole[:-1] + bytes([whole[-1] ^ 1]), reserved]
    corpus.save(file, bad)
