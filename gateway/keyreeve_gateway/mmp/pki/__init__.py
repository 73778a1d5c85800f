"""`pki`: the keys, requests and certificates of a server."""

from keyreeve_gateway.grammar.model import Family
from keyreeve_gateway.mmp.pki import (
    csr,
    inspect_file,
    list_files,
    match,
    pkcs12_to_ssh,
    selfsigned,
    sign,
    unlock,
    verify,
)

FAMILY = Family(
    "pki",
    "Manages the keys, requests and certificates of this server.",
    (
        csr.VERB,
        inspect_file.VERB,
        list_files.VERB,
        match.VERB,
        pkcs12_to_ssh.VERB,
        selfsigned.VERB,
        sign.VERB,
        unlock.VERB,
        verify.VERB,
    ),
)
