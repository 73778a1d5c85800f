"""Why a process does not start."""


class StartRefused(Exception):
    """The service cannot start with these settings or this database; the message says why and what to do.

    A process that ends so has exit code 78 (EX_CONFIG), and is not started again.
    """
