"""`keyreeve` for control planes of the CA alone, which starts in half the time: `python -m support.ca_alone`."""

from keyreeve.cli.supervision import local_services


def leave_the_ca_alone() -> None:
    """Take the other services out of the table, which other modules read when they are imported."""
    local_services.SERVICES = tuple(service for service in local_services.SERVICES if service.is_ca)


if __name__ == "__main__":
    leave_the_ca_alone()
    from keyreeve.cli import main

    main()
