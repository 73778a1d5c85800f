"""The built-in profiles, which every control plane has from its first start."""

from importlib.resources import files

from keyreeve_ca.profiles.document import read_profile
from keyreeve_ca.profiles.profile import Profile

BUILTIN_NAMES = (
    "service",
    "enrollment",
    "operator",
    "member",
    "workload",
    "probe",
    "peer-check",
    "array-peer",
    "server",
    "client",
    "mtls",
)


def builtin_profiles(trust_domain: str) -> dict[str, tuple[str, bytes, Profile]]:
    """Return name -> (canonical JSON, its SHA-256 hash, profile) of each built-in profile."""
    room = files("keyreeve_ca").joinpath("builtin_profiles")
    return {
        name: read_profile(room.joinpath(f"{name}.yaml").read_text("utf-8"), trust_domain, builtin=True)
        for name in BUILTIN_NAMES
    }
