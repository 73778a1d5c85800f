"""`keyreeve` for control planes of the CA alone, which starts in half the time: `python -m support.ca_alone`."""

from keyreeve.cli.supervision import local_services

if __name__ == "__main__":
    local_services.SERVICES = tuple(service for service in local_services.SERVICES if service.is_ca)
    # Only now: other modules read the table when they are imported.
    from keyreeve.cli import main

    main()
