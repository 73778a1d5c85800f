"""A touch of a key in a device, by OpenSSH: it knows the devices, and asks the person to touch them."""

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
    """How to have the key's device sign something; `key` is what `ssh-keygen -t ed25519-sk` wrote.

    What comes back raises `FileUnusable` when OpenSSH is not there, cannot use the key, or waited in vain for a touch.
    """

    def sign(message: bytes) -> bytes:
        command = ["ssh-keygen", "-Y", "sign", "-n", NAMESPACE, "-f", str(key)]
        try:
            # Standard error is the terminal's: OpenSSH asks there for the touch, and for a PIN where there is one.
            done = subprocess.run(command, input=message, stdout=subprocess.PIPE, check=False, timeout=_SECONDS)  # noqa: S603
        except FileNotFoundError:
            raise FileUnusable("there is no ssh-keygen: install OpenSSH, which knows how to talk to devices") from None
        except subprocess.TimeoutExpired:
            raise FileUnusable(f"the device of {key} was not touched within {_SECONDS} seconds") from None
        text = done.stdout.decode("ascii", "replace").strip()
        if done.returncode == 0 and text.startswith(_BEGIN) and text.endswith(_END):
            with suppress(binascii.Error):
                return base64.b64decode("".join(text[len(_BEGIN) : -len(_END)].split()), validate=True)
        raise FileUnusable(f"ssh-keygen made no signature with {key}")

    return sign
