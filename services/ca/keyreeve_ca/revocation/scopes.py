"""What a CRL of an authority covers: one shard of its certificates, or all of them."""

from keyreeve.values import AuthorityKind, Hierarchy
from keyreeve_ca.revocation.ports import FULL_LIST, Shard
from keyreeve_ca.store.ports import Authority


def has_one_list(authority: Authority) -> bool:
    """Whether the authority's only list covers everything: a hierarchy's root, which signs no leaves."""
    return authority.kind is AuthorityKind.ROOT and authority.hierarchy is not Hierarchy.STANDALONE


def covers_all(authority: Authority, shard: Shard) -> bool:
    """Whether a list is complete, and so has no issuing distribution point (RFC 5280, 5.2.5).

    OpenSSL refuses a list with one for a certificate without a distribution point, such as a root.
    """
    return shard[1] == FULL_LIST or has_one_list(authority)


def list_to_publish(authority: Authority | None, shard: Shard) -> Shard:
    """Return the list that answers a request for a shard, or for the full list."""
    if shard[1] == FULL_LIST and authority is not None and has_one_list(authority):
        return shard[0], 0
    return shard
