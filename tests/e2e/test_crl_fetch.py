"""The forms that `keyreeve crl fetch` writes, read by openssl."""

import subprocess
from pathlib import Path

from support.control_plane import ControlPlane
from support.real_servers import text_of_crls


def test_crl_fetch_writes_pem_and_der_and_standard_output(control_plane: ControlPlane, tmp_path: Path) -> None:
    for form, read in (("pem", "PEM"), ("der", "DER")):
        done = control_plane.run("crl", "fetch", "estate-issuing-1", "--form", form, "--out", tmp_path / form)
        assert done.code == 0, done.err
        told = subprocess.run(
            ["openssl", "crl", "-noout", "-text", "-inform", read, "-in", str(tmp_path / form)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "Issuing Distribution Point: critical" in told
    piped = control_plane.run("crl", "fetch", "--all", "--out", "-")
    assert piped.code == 0
    assert piped.out.startswith("-----BEGIN X509 CRL-----")
    told = text_of_crls(piped.out.encode())
    assert "Issuing Distribution Point" not in told
