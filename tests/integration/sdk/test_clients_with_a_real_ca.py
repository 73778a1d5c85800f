"""`keyreeve.testing`: a CA that really signs."""

import pytest
from cryptography import x509

import keyreeve
from keyreeve import Context, Name, make_csr, make_key
from keyreeve.errors import CsrMalformed, ProfileNotFound
from keyreeve.testing import local_ca
from support.sdk_forms import AsyncForm, BlockingForm


@pytest.mark.slow
async def test_a_certificate_is_signed_and_renewed_by_a_ca_in_this_process() -> None:
    with local_ca(trust_domain="users.test") as context:
        assert context.trust_domain == "users.test"
        _sign_and_renew(context)
        with pytest.raises(ProfileNotFound):
            await AsyncForm().run(context, lambda client: client.profiles.get("nothing-like-it"))
        with pytest.raises(CsrMalformed):
            await BlockingForm().run(context, lambda client: client.certificates.sign("server", b"junk"))
        authorities = await AsyncForm().run(context, lambda client: client.authorities.list())
        assert {str(one.state) for one in authorities} == {"active"}


def _sign_and_renew(context: Context) -> None:
    with keyreeve.Client(context) as client:
        old, new = make_key(), make_key()
        signed = client.certificates.sign("server", make_csr(old, [Name.dns("web.example.test")]))
        renewed = client.certificates.renew(signed.serial, make_csr(new), old_key=old)
        assert client.certificates.get(renewed.serial).renews == signed.name
        leaf, issuing = x509.load_pem_x509_certificates(renewed.pem().encode())
        assert leaf.public_key() == new.public_key()
        leaf.verify_directly_issued_by(issuing)
        (root,) = client.authorities.bundle("estate").roots_der
        issuing.verify_directly_issued_by(x509.load_der_x509_certificate(root))
