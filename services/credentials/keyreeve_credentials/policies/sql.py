"""`policies.ports.PolicyRecords` on both databases."""

from collections.abc import Sequence

from sqlalchemy import Connection, func, select

from keyreeve.errors import PolicyDamaged
from keyreeve_chassis.database.transactions import touch
from keyreeve_chassis.trust_tables.sql import SqlTrust
from keyreeve_credentials.policies.documents import parse_rules, rules_text
from keyreeve_credentials.policies.ports import POLICIES
from keyreeve_credentials.policies.rules import Policy
from keyreeve_credentials.policies.tables import policies


class SqlPolicies:
    """The records in one transaction."""

    def __init__(self, connection: Connection, trust: SqlTrust) -> None:
        self._connection = connection
        self._trust = trust

    def present(self) -> Sequence[Policy]:
        """See `PolicyRecords.present`. Raises `PolicyDamaged`."""
        for alteration in self._trust.verify({policies.name}):
            raise PolicyDamaged(f"the stored policies are not as they were written: {alteration}")
        newest = select(policies.c.name, func.max(policies.c.version).label("version")).group_by(policies.c.name)
        last = newest.subquery()
        query = (
            select(policies)
            .join(last, (policies.c.name == last.c.name) & (policies.c.version == last.c.version))
            .order_by(policies.c.name)
        )
        found = []
        for row in self._connection.execute(query):
            try:
                rules = parse_rules(row.rules)
            except (ValueError, TypeError, KeyError, AttributeError):
                raise PolicyDamaged(f"the stored policy {row.name} cannot be read") from None
            found.append(Policy(row.name, row.version, rules, row.created_at, row.creator))
        return found

    def add(self, policy: Policy) -> None:
        """See `PolicyRecords.add`."""
        self._trust.rows(policies).insert(
            {
                "name": policy.name,
                "version": policy.version,
                "rules": rules_text(policy.rules),
                "created_at": policy.created_at,
                "creator": policy.creator,
            }
        )
        touch(self._connection, POLICIES)
