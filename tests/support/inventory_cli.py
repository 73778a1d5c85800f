"""`keyreeve` for control planes with two more services, one in the place of membership: `python -m support.inventory_cli`."""

from keyreeve.cli.supervision import local_services
from keyreeve.cli.supervision.local_services import Service

INVENTORY = Service("membership", "support.inventory_service", 1)
STATELESS = Service("gateway", "support.stateless_service", 3, has_database=False)

if __name__ == "__main__":
    others = (service for service in local_services.SERVICES if service.name != INVENTORY.name)
    local_services.SERVICES = (*others, INVENTORY, STATELESS)
    # Only now: other modules read the table when they are imported.
    from keyreeve.cli import main

    main()
