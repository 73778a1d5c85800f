"""Signatures by a security key, through OpenSSH."""

import base64
import binascii
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from keyreeve.errors import FileUnusable

NAMESPACE = "keyreeve-renew-1"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_SECONDS = 60


def touch_of(key: Path) -> Callable[[bytes], bytes]:
    """Return a function that signs with a security key.

    `key` is the file that `ssh-keygen -t ed25519-sk` wrote.

    The function raises `FileUnusable` when OpenSSH is not installed, cannot use the key, or was not given a touch in time.
    """

    def sign(message: bytes) -> bytes:
        command = ["ssh-keygen", "-Y", "sign", "-n", NAMESPACE, "-f", str(key)]
        try:
            # Standard error is the terminal's: OpenSSH asks there for the touch, and for a PIN where there is one.
            done = subprocess.run(command, input=message, stdout=subprocess.PIPE, check=False, timeout=_SECONDS)  # noqa: S603
        except FileNotFoundError:
            raise FileUnusable("ssh-keygen was not found: install OpenSSH") from None
        except subprocess.TimeoutExpired:
            raise FileUnusable(f"the security key of {key} was not touched within {_SECONDS} seconds") from None
        text = done.stdout.decode("ascii", "replace").strip()
        if done.returncode == 0 and text.startswith(_BEGIN) and text.endswith(_END):
            with suppress(binascii.Error):
                return base64.b64decode("".join(text[len(_BEGIN) : -len(_END)].split()), validate=True)
        raise FileUnusable(f"ssh-keygen could not sign with {key}")

    return sign
