"""A service without a database, as the gateway is one: `python -m support.stateless_service COMMAND`."""

import sys
from typing import Any

from keyreeve.identity import ALL_ROLES
from keyreeve_chassis.guard.access import AccessRule
from keyreeve_chassis.guard.call import Call
from keyreeve_chassis.guard.router import ServedService
from keyreeve_chassis.processes.program import Program
from keyreeve_chassis.processes.solo import NoStorage, solo_role
from keyreeve_chassis.service import ServiceContext, ServiceSpec
from keyreeve_chassis.settings.sections import ServerSettings
from support.inventory_contract import DESCRIPTOR, SERVICE, Item, ListItemsResponse

UNSERVED = frozenset({"AddItem", "WatchItems", "CountItems"})


class StatelessServicer:
    """Serves ListItems: always one item, named after the caller."""

    async def ListItems(self, _request: Any, call: Call) -> Any:  # noqa: N802  # the name in the contract
        return ListItemsResponse(items=[Item(name="only", creator=str(call.caller))])


def routers(_context: ServiceContext[ServerSettings]) -> list[ServedService]:
    rows = {SERVICE + "ListItems": AccessRule(ALL_ROLES)}
    return [ServedService(DESCRIPTOR, StatelessServicer(), rows, excluded_methods=UNSERVED)]


SPEC = ServiceSpec("gateway", ServerSettings, (solo_role(NoStorage()),), routers=routers)

if __name__ == "__main__":
    sys.exit(Program("gateway", lambda: SPEC, roles=("solo",)).main())
