"""RSA keys that all processes of a test run share, because making one takes up to a second."""

from functools import cache

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from support.migrated import first, run_directory


@cache
def shared_rsa_key(bits: int, which: int = 0) -> rsa.RSAPrivateKey:
    """The same key of this size and number each time, for tests that do not show how keys are made."""
    path = run_directory() / f"rsa-{bits}-{which}"
    with first(path) as missing:
        if missing:
            made = rsa.generate_private_key(65537, bits)
            path.write_bytes(made.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    # The validation of a key that was just made takes a tenth of a second.
    loaded = load_der_private_key(path.read_bytes(), None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(loaded, rsa.RSAPrivateKey)
    return loaded
