"""Client library of Keyreeve: clients, keys, CSRs and certificate files.

    import keyreeve

    with keyreeve.Client() as client:
        key = keyreeve.make_key()
        csr = keyreeve.make_csr(key, [keyreeve.Name.dns("web.example.test")])
        certificate = client.certificates.sign("server", csr)

`keyreeve.aio` is the same for asyncio. Names are loaded on first use, so that `import keyreeve` is fast, and
`keyreeve.errors`, `keyreeve.identity` and `keyreeve.values` never load gRPC.
"""

from importlib import import_module

# Type checkers know the name; importing it from `typing` would take five times as long as the rest.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from keyreeve import aio as aio
    from keyreeve import errors as errors
    from keyreeve import identity as identity
    from keyreeve import keys as keys
    from keyreeve import values as values
    from keyreeve._blocking.client import Client as Client
    from keyreeve.context import Context as Context
    from keyreeve.errors import KeyreeveError as KeyreeveError
    from keyreeve.keys import load_certificates as load_certificates
    from keyreeve.keys import load_key as load_key
    from keyreeve.keys import make_csr as make_csr
    from keyreeve.keys import make_key as make_key
    from keyreeve.keys import save_certificate as save_certificate
    from keyreeve.keys import save_key as save_key
    from keyreeve.retry import RetryPolicy as RetryPolicy
    from keyreeve.values import KeyType as KeyType
    from keyreeve.values import Line as Line
    from keyreeve.values import Name as Name
    from keyreeve.values import SignedCertificate as SignedCertificate
    from keyreeve.values import SignItem as SignItem

_MODULES = ("aio", "errors", "identity", "keys", "values")
_MODULE_OF = {
    "Client": "keyreeve._blocking.client",
    "Context": "keyreeve.context",
    "KeyType": "keyreeve.values",
    "KeyreeveError": "keyreeve.errors",
    "Line": "keyreeve.values",
    "Name": "keyreeve.values",
    "RetryPolicy": "keyreeve.retry",
    "SignItem": "keyreeve.values",
    "SignedCertificate": "keyreeve.values",
    "load_certificates": "keyreeve.keys",
    "load_key": "keyreeve.keys",
    "make_csr": "keyreeve.keys",
    "make_key": "keyreeve.keys",
    "save_certificate": "keyreeve.keys",
    "save_key": "keyreeve.keys",
}

__all__ = [*_MODULES, *_MODULE_OF]  # noqa: PLE0604  # each name is written once


if not TYPE_CHECKING:  # otherwise type checkers would accept every misspelled name

    def __getattr__(name: str) -> object:
        """Load a public name on first use (PEP 562)."""
        if name in _MODULES:
            return import_module(f"keyreeve.{name}")
        if name not in _MODULE_OF:
            raise AttributeError(f"module 'keyreeve' has no attribute {name!r}")
        value: object = getattr(import_module(_MODULE_OF[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
