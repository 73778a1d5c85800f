"""Metrics of the credentials service beside `grpc_server_*`. Names: docs/metrics.md."""

from prometheus_client import Counter

INTEGRITY_ALARMS = Counter(
    "keyreeve_credentials_integrity_alarms_total", "Rows that are not as they were written: the log names them."
)
