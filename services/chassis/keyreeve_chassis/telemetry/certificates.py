"""Expiry of the certificates that this process serves with."""

from functools import cache

from prometheus_client import Gauge


@cache
def _gauges() -> tuple[Gauge, Gauge]:
    # Made by the processes that have such a certificate, when they have it: the page shows the least, and a new one is 0.
    return (
        Gauge(
            "keyreeve_serving_certificate_not_before_timestamp_seconds",
            "When the certificate that the service serves with was issued; of several processes the first.",
            multiprocess_mode="livemin",
        ),
        Gauge(
            "keyreeve_serving_certificate_not_after_timestamp_seconds",
            "When the certificate that the service serves with expires; of several processes the first.",
            multiprocess_mode="livemin",
        ),
    )


def show_serving_certificate(not_before: int, not_after: int) -> None:
    """Set the validity of this process's serving certificate, in seconds since 1970."""
    for gauge, value in zip(_gauges(), (not_before, not_after), strict=True):
        gauge.set(value)
