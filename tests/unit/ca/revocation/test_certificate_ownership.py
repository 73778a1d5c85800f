"""A reused name is not the requester of certificates of the earlier person."""

from dataclasses import replace

import pytest

from keyreeve import errors
from keyreeve.identity import Caller, Role, SpiffeId
from keyreeve.values import Hierarchy
from keyreeve_ca.operators.ports import Operator
from keyreeve_ca.operators.service import first_second
from keyreeve_ca.revocation.service import may_revoke
from keyreeve_ca.store.ports import StoredCertificate

NOW = 1_800_000_000
CARL = SpiffeId("example.test", ("operators", "auditor", "carl"))
PERSON = Operator("new", "carl", Role.AUDITOR, created_at=NOW, invited_at=NOW, invited_by="ann", since=NOW)
AUDITOR = Caller(CARL, Role.AUDITOR, 1, "new")
PROGRAM = Caller(SpiffeId("example.test", ("workloads", "billing")), Role.WORKLOAD, 1)


def certificate(caller: str, issued_at: int, identity: str = "web.example.test") -> StoredCertificate:
    return StoredCertificate(
        serial=b"s" * 16,
        authority_id="estate-1",
        profile_name="server",
        profile_version=1,
        caller=caller,
        request_id="",
        identity=identity,
        spki_sha256=b"k" * 32,
        not_before=issued_at,
        not_after=issued_at + 3600,
        issued_at=issued_at,
        der=b"",
        csr=b"",
        requested_sans="[]",
        requested_lifetime_seconds=None,
        renews=None,
    )


def test_certificates_requested_under_the_name_before_the_record_began_belong_to_another_person() -> None:
    since = first_second(AUDITOR, PERSON)
    assert may_revoke(AUDITOR, certificate(str(CARL), NOW), Hierarchy.ESTATE, since)
    assert not may_revoke(AUDITOR, certificate(str(CARL), NOW - 1), Hierarchy.ESTATE, since)
    assert not may_revoke(AUDITOR, certificate("ann", NOW - 1, str(CARL)), Hierarchy.CONTROL, since)
    assert may_revoke(AUDITOR, certificate("ann", NOW, str(CARL)), Hierarchy.CONTROL, since)


def test_programs_have_names_that_are_theirs_for_ever() -> None:
    since = first_second(PROGRAM, None)
    assert may_revoke(PROGRAM, certificate(str(PROGRAM), 1), Hierarchy.ESTATE, since)


@pytest.mark.parametrize("record", [None, replace(PERSON, person_uid="another person")])
def test_an_operator_whose_record_has_ended_is_refused(record: Operator | None) -> None:
    with pytest.raises(errors.PeerOperatorUnknown):
        first_second(AUDITOR, record)
