"""curl, OpenSSL and NSS (Chromium, Firefox) with the product's files alone (docs/servers.md)."""

import subprocess
from pathlib import Path

import pytest

from support.programs import find_program
from support.real_servers import NAME, OCSP, Files, Row, assert_client_uses, nginx_serving
from support.waiting import wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
    )


def test_curl(files: Files, tmp_path: Path) -> None:
    curl, client = find_program("curl"), files.own_client("curl")

    def get(port: int, *checks: object) -> subprocess.CompletedProcess[str]:
        return run(
            *(curl, "--silent", "--show-error", "--noproxy", "*", "--connect-to", f"{NAME}:{port}:127.0.0.1:{port}"),
            *("--cacert", files.roots, "--cert", client.certificate, "--key", client.key),
            *(checks or ("--crlfile", files.crls)),
            f"https://{NAME}:{port}/",
        )

    assert_client_uses(files, client, get)
    with nginx_serving(files, files.server, tmp_path / "good", OCSP) as (port, _):
        # nginx asks the responder when the first client wants the status, and staples the answer for the next one.
        wait_for("a stapled status", lambda: "hello" in get(port, "--cert-status").stdout, 30)
    with nginx_serving(files, files.revoked_server, tmp_path / "gone", OCSP) as (port, _):
        log = tmp_path / "gone/error.log"

        def told() -> bool:
            assert "hello" not in get(port, "--cert-status").stdout
            return 'certificate status "revoked"' in log.read_text()

        wait_for("nginx hears of the revocation, and staples nothing", told, 30)
        assert "No OCSP response" in get(port, "--cert-status").stderr
    Row(
        "curl",
        "`--cacert estate-bundle.pem`",
        "`--cert certificate.pem --key key.pem`",
        "`--crlfile crls.pem`",
        "each run reads the files",
        "`--cert-status`, of servers that staple",
    ).check()


def test_openssl(files: Files) -> None:
    for pair, good in ((files.good, True), (files.revoked, False)):
        done = run(
            *("openssl", "verify", "-crl_check_all", "-x509_strict", "-no-CApath", "-no-CAstore"),
            *("-CAfile", files.roots, "-CRLfile", files.crls, "-untrusted", pair.chain, pair.certificate),
        )
        assert (done.returncode == 0) is good, done.stderr
        assert good or "certificate revoked" in done.stderr


def test_nss(files: Files, tmp_path: Path) -> None:
    """NSS keeps certificates, keys and CRLs in a database, as Chromium on Linux and Firefox do."""
    certutil, crlutil, pk12util = (find_program(name) for name in ("certutil", "crlutil", "pk12util"))
    tstclnt, vfychain = find_program("tstclnt"), find_program("vfychain")
    database, client, nickname = f"sql:{tmp_path}", files.own_client("nss"), "nss.example.test"

    def must(*command: object) -> str:
        done = run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def import_client() -> None:
        must(pk12util, "-i", client.pkcs12, "-d", database, "-K", "", "-w", files.password)

    must(certutil, "-N", "-d", database, "--empty-password")
    must(certutil, "-A", "-d", database, "-n", "root", "-t", "CT,C,C", "-a", "-i", files.roots)
    must(certutil, "-A", "-d", database, "-n", "issuing", "-t", ",,", "-a", "-i", files.good.chain)
    import_client()
    for authority in ("estate-root-1", "estate-issuing-1"):
        files.run("crl", "fetch", authority, "--full", "--form", "der", "--out", tmp_path / authority)
        must(crlutil, "-I", "-d", database, "-i", tmp_path / authority)
    for pair, name, use, good in (
        (files.good, "good", "C", True),
        (files.revoked, "revoked", "C", False),
        (files.server, "server", "V", True),
        (files.revoked_server, "gone", "V", False),
    ):
        must(certutil, "-A", "-d", database, "-n", name, "-t", ",,", "-a", "-i", pair.certificate)
        verdict = run(certutil, "-V", "-d", database, "-n", name, "-u", use)
        assert (verdict.returncode == 0) is good, verdict.stdout + verdict.stderr
        usage = ("-u", "0" if use == "C" else "1", "-a", pair.certificate)
        for method in (("-m", "crl", "-s", "forbidFetching"), ("-m", "ocsp", "-s", "failIfNoInfo")):
            verdict = run(vfychain, "-d", database, "-pp", "-g", "leaf", *method, *usage)
            assert (verdict.returncode == 0) is good, verdict.stdout + verdict.stderr

    def get(port: int) -> subprocess.CompletedProcess[str]:
        import_client()
        request = tmp_path / "request"
        request.write_text("GET / HTTP/1.0\r\n\r\n")
        return run(tstclnt, "-d", database, "-h", NAME, "-p", port, "-n", nickname, "-A", request, "-4")

    assert_client_uses(files, client, get)
    Row(
        "NSS (Chromium, Firefox)",
        "`certutil -A -t CT,C,C -i estate-bundle.pem`",
        "`pk12util -i bundle.p12`",
        "`crlutil -I -i LIST` for each list of `crl fetch CA --full --form der`",
        "`pk12util -i` again; each start reads the database",
        "by the address in the certificate",
    ).check()
