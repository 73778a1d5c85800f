"""The coordinator is killed at every durable step of a CRL: CRL numbers increase, and no revocation is lost."""

import urllib.request

import pytest
from cryptography import x509

from keyreeve import Name, make_csr, make_key
from keyreeve.cli.supervision.local_services import read_addresses
from keyreeve.values import CrlReason
from support.control_plane import CA, ControlPlane
from support.waiting import wait_for

CERTIFICATES = 12
CRASHES = "ca.crl.reserve=crash@9,ca.crl.publish=crash@7"
"""The first coordinator makes the four lists of a new control plane, so each of its successors dies after some more."""


@pytest.mark.faults
@pytest.mark.timeout(240)
def test_numbers_of_lists_rise_and_nothing_is_lost_when_the_coordinator_is_killed_while_it_makes_them(
    own_control_plane: ControlPlane,
) -> None:
    own_control_plane.up(KEYREEVE_ALLOW_FAILPOINTS="1", KEYREEVE_FAILPOINTS=CRASHES)
    coordinators = set(own_control_plane.children()["coordinator"])
    url = read_addresses(own_control_plane.state_directory, CA).http_url
    key, numbers = make_key(), []
    revoked: dict[str, set[int]] = {}
    with own_control_plane.client(timeout=60) as client:
        for n in range(CERTIFICATES):
            signed = client.certificates.sign("server", make_csr(key, [Name.dns(f"web-{n}.example.test")]))
            client.certificates.revoke(signed.serial, CrlReason.SUPERSEDED)
            leaf = x509.load_der_x509_certificate(signed.certificate_der)
            [point] = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
            assert point.full_name is not None
            address = str(point.full_name[0].value)
            assert address.startswith(url)

            serial = int(signed.serial, 16)
            revoked.setdefault(address, set()).add(serial)

            def listed(address: str = address, last: int = serial) -> x509.CertificateRevocationList | None:
                try:
                    with urllib.request.urlopen(address, timeout=5) as answer:
                        found = x509.load_der_x509_crl(answer.read())
                except OSError:
                    return None  # the coordinator is being started again
                numbers.append((address, found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number))
                return found if found.get_revoked_certificate_by_serial_number(last) else None

            wait_for("the certificate on its list", listed)
            coordinators |= set(own_control_plane.children()["coordinator"])
    assert len(coordinators) > 1, "no coordinator was killed"
    for address, expected in revoked.items():
        seen = [number for each, number in numbers if each == address]
        assert seen == sorted(seen)
        with urllib.request.urlopen(address, timeout=5) as answer:
            entries = {one.serial_number for one in x509.load_der_x509_crl(answer.read())}
        # A killed coordinator's blocks are void: their phantoms may be listed beside what was revoked.
        assert expected <= entries
    assert own_control_plane.run("crl", "show", "estate-issuing-1").code == 0
