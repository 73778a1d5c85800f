"""Settings of `keyreeve bench sign`, passed between processes as JSON."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from keyreeve.errors import FieldInvalid

MOST_IN_A_BATCH = 100
KEY_KINDS = ("p256", "p384", "rsa2048", "ed25519", "mix")
BASELINES = ("cfssl", "step-ca")


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """Settings of a benchmark. Times are in seconds, rates in certificates per second."""

    context: str | None = None
    """Context file; None: the one that the SDK finds."""
    profile: str = "server"
    keys: str = "p256"
    """Key type of the requests, one of `KEY_KINDS`."""
    dns_suffix: str = "bench.example.test"
    """Suffix of the names in the requests."""
    client: Literal["grpc", "sdk"] = "grpc"
    """`grpc`: prepared messages over grpc.aio, the cheapest; `sdk`: one `sign()` of the SDK per certificate."""
    coalesce: bool = True
    """Whether the SDK coalesces waiting calls; ignored with `grpc`."""
    in_flight: int = 64
    """Calls in flight, over all processes."""
    connections: int = 8
    processes: int = 2
    batch: int = 1
    """Certificates in a call; above 1 with SignCertificates."""
    rate: float | None = None
    """Open loop at this rate; None: closed loop."""
    warm_up: float = 2.0
    duration: float = 10.0
    runs: int = 5
    limit_seconds: float = 1.0
    """Length of each measurement of the signing limit and the echo rate."""
    timeout: float = 30.0
    """Deadline of a call."""
    repeat: bool = False
    """Whether a call that failed temporarily is repeated with its request id until it is answered."""
    acknowledgements: str | None = None
    """File that every acknowledged certificate is written to, and fsynced before its caller continues."""
    server_pid: int | None = None
    """Pid of the service's process manager; None: the one that `keyreeve up` started beside the context."""
    database: str | None = None
    """URL of the ledger's database; None: the one in the settings written by `keyreeve up`."""
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
        """Read the output of `to_document`. Raises `keyreeve.errors.FieldInvalid` for conflicting settings."""
        settings = cls(**document | {name: tuple(document.get(name, ())) for name in ("compare", "require")})
        settings.check()
        return settings

    def to_document(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self)

    def check(self) -> None:
        """Raise `keyreeve.errors.FieldInvalid` for invalid or conflicting settings."""
        if not 1 <= self.batch <= MOST_IN_A_BATCH:
            raise FieldInvalid(f"a batch has 1 to {MOST_IN_A_BATCH} certificates, not {self.batch}")
        if self.keys not in KEY_KINDS:
            raise FieldInvalid(f"keys are one of {', '.join(KEY_KINDS)}, not {self.keys!r}")
        if self.client == "sdk" and self.batch > 1:
            raise FieldInvalid("the SDK coalesces calls itself: --client sdk requires --batch 1")
        if self.client == "sdk" and self.coalesce and self.repeat:
            raise FieldInvalid(
                "a repeated call needs its own request id: --repeat requires --no-coalesce with --client sdk"
            )
        if unknown := [name for name in self.compare if name not in BASELINES]:
            raise FieldInvalid(f"no baseline is called {unknown[0]!r}; available are {', '.join(BASELINES)}")
        if self.rate is not None and self.rate <= 0:
            raise FieldInvalid("--rate is a number of certificates per second above zero")
        counts = (self.in_flight, self.connections, self.processes, self.runs)
        if min(counts) < 1 or min(self.duration, self.timeout, 1.0 if self.overload is None else self.overload) <= 0:
            raise FieldInvalid("in-flight, connections, processes, runs, duration, timeout and overload are above zero")

    @property
    def kind(self) -> str:
        """`batch` or `unary`, the name of the rate in a threshold."""
        return "batch" if self.batch > 1 else "unary"
