"""Names in the filled vault of a benchmark."""

ARRAY = "bench"
SERVER, APPLICATION = "o=Bench/cn=server", "o=Bench/cn=application"


def owner_of(number: int) -> str:
    """The owner of an entry."""
    return f"o=Bench/ou=Unit {number % 97}/cn=Person {number}"
