"""Why a process refuses to start."""


class StartRefused(Exception):
    """The service cannot start with these settings or this database; the message says what to do.

    The process ends with exit code 78 (EX_CONFIG) and is not restarted.
    """
