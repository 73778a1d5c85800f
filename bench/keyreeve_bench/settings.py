"""What one `keyreeve bench sign` is asked to do; it travels between processes as JSON."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from keyreeve.errors import FieldInvalid

MOST_IN_A_BATCH = 100
KEY_KINDS = ("p256", "p384", "rsa2048", "ed25519", "mix")
PEERS = ("cfssl", "step-ca")


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """The settings of a bench. Times are in seconds, rates in certificates per second."""

    context: str | None = None
    """The context file; None: the one that the SDK finds."""
    profile: str = "server"
    keys: str = "p256"
    """One of `KEY_KINDS`: the keys of the requests."""
    dns_suffix: str = "bench.example.test"
    """Names in the requests end in it."""
    client: Literal["grpc", "sdk"] = "grpc"
    """`grpc`: prepared messages over grpc.aio, which costs least; `sdk`: one `sign()` of the SDK for each certificate."""
    coalesce: bool = True
    """Whether the SDK may put waiting calls together; of no meaning to `grpc`."""
    in_flight: int = 64
    """Calls at once, over all processes."""
    connections: int = 8
    processes: int = 2
    batch: int = 1
    """Certificates in a call; above 1 by SignCertificates."""
    rate: float | None = None
    """Open loop at this rate; None: closed loop."""
    warm_up: float = 2.0
    duration: float = 10.0
    runs: int = 5
    limit_seconds: float = 1.0
    """Length of each measurement of the machine's own limits."""
    timeout: float = 30.0
    """Deadline of a call."""
    repeat: bool = False
    """Whether a call that failed for a while is repeated with its request id until it is answered."""
    acknowledgements: str | None = None
    """File to which every acknowledged certificate is written, and fsynced before its caller goes on."""
    server_pid: int | None = None
    """The service's manager process; None: the one that `keyreeve up` started beside the context."""
    database: str | None = None
    """URL of the ledger's database; None: the one in the settings that `keyreeve up` wrote."""
    overload: float | None = None
    """Seconds of overload after the runs; None: none."""
    compare: tuple[str, ...] = ()
    plot: str | None = None
    sweep_seconds: float = 5.0
    require: tuple[str, ...] = ()
    json: bool = False
    progress: bool = True

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """Read what `to_document` wrote. Raises `keyreeve.errors.FieldInvalid` for settings that do not fit together."""
        settings = cls(**document | {name: tuple(document.get(name, ())) for name in ("compare", "require")})
        settings.check()
        return settings

    def to_document(self) -> dict[str, Any]:
        """The settings as plain values."""
        return asdict(self)

    def check(self) -> None:
        """Raise `keyreeve.errors.FieldInvalid` for settings that do not fit together."""
        if not 1 <= self.batch <= MOST_IN_A_BATCH:
            raise FieldInvalid(f"a batch has 1 to {MOST_IN_A_BATCH} certificates, not {self.batch}")
        if self.keys not in KEY_KINDS:
            raise FieldInvalid(f"keys are one of {', '.join(KEY_KINDS)}, not {self.keys!r}")
        if self.client == "sdk" and self.batch > 1:
            raise FieldInvalid("the SDK makes batches by itself: --client sdk goes with --batch 1")
        if self.client == "sdk" and self.coalesce and self.repeat:
            raise FieldInvalid(
                "calls with a request id to repeat are not put together: --repeat goes with --no-coalesce"
            )
        if unknown := [peer for peer in self.compare if peer not in PEERS]:
            raise FieldInvalid(f"no peer is called {unknown[0]!r}; known are {', '.join(PEERS)}")
        if self.rate is not None and self.rate <= 0:
            raise FieldInvalid("--rate is a number of certificates per second above zero")
        counts = (self.in_flight, self.connections, self.processes, self.runs)
        if min(counts) < 1 or min(self.duration, self.timeout, 1.0 if self.overload is None else self.overload) <= 0:
            raise FieldInvalid("in-flight, connections, processes, runs, duration, timeout and overload are above zero")

    @property
    def kind(self) -> str:
        """`batch` or `unary`: what a threshold names the rate by."""
        return "batch" if self.batch > 1 else "unary"
