"""A row of the roll that another has changed is named by `doctor` and by the verification of the audit log."""

import asyncio

from sqlalchemy import update

from keyreeve_chassis.local_admin.findings import Finding
from keyreeve_membership.app import STORAGE
from keyreeve_membership.store.tables import members
from support.membership import RunningMembership

AUDITOR = "operators/auditor/ada"


async def findings(membership: RunningMembership) -> dict[str, Finding]:
    """What `keyreeve doctor` finds in the database."""
    found = await asyncio.to_thread(STORAGE.look, membership.settings)
    return {one.check: one for one in found}


async def test_doctor_and_the_verification_of_the_log_name_a_changed_member(membership: RunningMembership) -> None:
    await membership.agent("one.example.test")
    auditor = (await membership.client(AUDITOR)).membership.audit
    assert (await auditor.verify()).problems == ()
    whole = await findings(membership)
    assert whole["key-encryption key"].ok
    assert whole["trust tables"].ok

    await membership.write(lambda tx: tx._connection.execute(update(members).values(address="192.0.2.1")))
    told = (await findings(membership))["trust tables"]
    assert not told.ok
    assert "members/" in told.message
    assert told.fix.endswith("keyreeve recover trust-tables --service membership")
    [problem] = (await auditor.verify()).problems
    assert (problem.kind, problem.message) == ("table", "changed")
    assert problem.where.startswith("members/")
