"""`keyreeve` for control planes of the CA and two services of the tests: `python -m support.inventory_cli`."""

from keyreeve.cli.supervision import local_services
from keyreeve.cli.supervision.local_services import Service

INVENTORY = Service("membership", "support.inventory_service", 1)
STATELESS = Service("gateway", "support.stateless_service", 3, has_database=False)

if __name__ == "__main__":
    ca, *_ = local_services.SERVICES
    local_services.SERVICES = (ca, INVENTORY, STATELESS)
    # Only now: other modules read the table when they are imported.
    from keyreeve.cli import main

    main()
