"""`Transaction`: one database transaction of the credentials service, with the records of each feature."""

from collections.abc import Mapping

from keyreeve_chassis.database.service_transaction import ServiceTransaction
from keyreeve_chassis.trust_tables.tables import TrustTables
from keyreeve_credentials.entries.sql import SqlEntries
from keyreeve_credentials.key_files.sql import SqlKeyFiles
from keyreeve_credentials.keys import tables as key_tables
from keyreeve_credentials.keys.ports import StoredValues
from keyreeve_credentials.keys.sql import SqlKeks
from keyreeve_credentials.launch_settings import tables as launch_setting_tables
from keyreeve_credentials.launch_settings.sql import SqlLaunchSettings
from keyreeve_credentials.objects import tables as object_tables
from keyreeve_credentials.objects.sql import SqlObjects
from keyreeve_credentials.policies import tables as policy_tables
from keyreeve_credentials.policies.sql import SqlPolicies
from keyreeve_credentials.resolution.sql import SqlLaunches
from keyreeve_credentials.restarts.sql import SqlBoots
from keyreeve_credentials.store.metadata import SERVICE_TABLES, TRUST_HEADS


class Transaction(ServiceTransaction):
    """Adds to the records of every service those of the features."""

    tables = SERVICE_TABLES
    trust_tables = TrustTables(
        TRUST_HEADS,
        (
            *key_tables.TRUST,
            *launch_setting_tables.TRUST,
            *object_tables.TRUST,
            *policy_tables.TRUST,
        ),
    )

    @property
    def entries(self) -> SqlEntries:
        """The entries of the vault."""
        return SqlEntries(self._connection, self._write)

    @property
    def keks(self) -> SqlKeks:
        """The key-encryption keys' records; the keys themselves are outside SQL."""
        return SqlKeks(self._connection, self._write, self.trust)

    @property
    def sealed_values(self) -> Mapping[str, StoredValues]:
        """The values that are encrypted under these keys, by feature; re-keying has to know all of them."""
        return {"entries": self.entries, "key files": self.key_files}

    @property
    def policies(self) -> SqlPolicies:
        """Who may read and manage entries."""
        return SqlPolicies(self._connection, self.trust)

    @property
    def objects(self) -> SqlObjects:
        """Application servers, applications and user profiles."""
        return SqlObjects(self._connection, self.trust)

    @property
    def launch_settings(self) -> SqlLaunchSettings:
        """Launch settings of arrays and servers."""
        return SqlLaunchSettings(self._connection, self.trust)

    @property
    def launches(self) -> SqlLaunches:
        """What a launch reads of entries."""
        return SqlLaunches(self._connection)

    @property
    def key_files(self) -> SqlKeyFiles:
        """Files of servers, and what they are assigned to."""
        return SqlKeyFiles(self._connection, self._write)

    @property
    def boots(self) -> SqlBoots:
        """Starts of members, and requests for new keys."""
        return SqlBoots(self._connection, self._write)
