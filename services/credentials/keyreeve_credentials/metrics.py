"""Metrics of the credentials service beside `grpc_server_*`. Names: docs/metrics.md."""

from prometheus_client import Counter, Gauge

from keyreeve_chassis.telemetry.current_values import CurrentValues

INTEGRITY_ALARMS = Counter(
    "keyreeve_credentials_integrity_alarms_total", "Rows that are not as they were written: the log names them."
)
UNUSUAL_READS = Counter(
    "keyreeve_credentials_unusual_reads_total", "Minutes in which one reader read the secrets of unusually many owners."
)
MOST_OWNERS_READ = Gauge(
    "keyreeve_credentials_most_owners_read", "The most owners whose secrets one reader has read in the present minute."
)
SEALED = CurrentValues("keyreeve_credentials_sealed", "1 while the vault opens nothing, else 0.")
