"""Which of several active authorities signs, and what authorities with and without name constraints sign."""

import pytest
from cryptography import x509

from keyreeve import Name
from keyreeve.keys import make_csr, make_key
from keyreeve.values import Authority, AuthorityKind, Hierarchy
from support.running_ca import RunningCa, refused, server_csr, unique


def intermediate(ca: RunningCa, hierarchy: Hierarchy = Hierarchy.ESTATE, **options: object) -> Authority:
    name = unique("issuing")
    return ca.client().authorities.create(
        name,
        hierarchy=hierarchy,
        kind=AuthorityKind.INTERMEDIATE,
        common_name=name,
        issuer=f"{hierarchy}-root-1",
        **options,  # type: ignore[arg-type]
    )


def test_of_several_active_authorities_the_newest_that_may_sign_the_names_is_taken(own_ca: RunningCa) -> None:
    certificates = own_ca.client().certificates
    key = make_key()
    before = certificates.sign("server", server_csr("web.example.org", key=key))
    corp = intermediate(own_ca, permitted_dns_suffixes=["corp.example.org"])
    own_ca.client().authorities.activate(corp.name)
    assert certificates.sign("server", server_csr("a.corp.example.org")).authority == corp.name
    assert certificates.sign("server", server_csr("web.example.org")).authority == before.authority
    assert certificates.renew(before.serial, make_csr(make_key()), old_key=key).authority == before.authority
    mixed = server_csr("a.corp.example.org", "web.example.org")
    assert certificates.sign("server", mixed).authority == before.authority


def test_an_authority_confined_to_a_suffix_refuses_other_types_of_names(own_ca: RunningCa) -> None:
    certificates = own_ca.client().certificates
    corp = intermediate(own_ca, permitted_dns_suffixes=["corp.example.org"])
    own_ca.client().authorities.activate(corp.name)
    inside, outside = Name.email("ann@corp.example.org"), Name.email("ann@example.org")
    csr = make_csr(make_key(), [Name.dns("a.corp.example.org")])
    assert certificates.sign("client", csr, names=[inside], authority=corp.name).authority == corp.name
    for name in (outside, Name.uri("https://example.org/")):
        told = refused(lambda name=name: certificates.sign("client", csr, names=[name], authority=corp.name))
        assert told.reason == "NAME_REFUSED"
    address = refused(lambda: certificates.sign("server", csr, names=[Name.ip("192.0.2.1")], authority=corp.name))
    assert "ip:192.0.2.1" in address.violations[0].description
    assert certificates.sign("server", csr, names=[Name.ip("192.0.2.1")]).authority != corp.name


def test_an_estate_authority_can_be_without_name_constraints_and_still_refuses_reserved_names(
    own_ca: RunningCa,
) -> None:
    made = intermediate(own_ca, unconstrained=True)
    with pytest.raises(x509.ExtensionNotFound):
        x509.load_der_x509_certificate(made.certificate_der).extensions.get_extension_for_class(x509.NameConstraints)
    own_ca.client().authorities.activate(made.name)
    certificates = own_ca.client().certificates
    assert certificates.sign("server", server_csr("web.example.org")).authority == made.name
    assert refused(lambda: certificates.sign("server", server_csr("ca.svc.example.test"))).reason == "NAME_REFUSED"
    for wrong in ({"permitted_dns_suffixes": ["example.org"]}, {"hierarchy": Hierarchy.CONTROL}):
        told = refused(lambda wrong=wrong: intermediate(own_ca, unconstrained=True, **wrong))  # type: ignore[arg-type]
        assert told.reason == "AUTHORITY_REFUSED"
