"""Coalesced calls have the results of single calls, from a real CA on both databases."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from keyreeve import Client, Context, Name, aio, errors
from keyreeve.keys import make_csr
from keyreeve.retry import NO_RETRY
from keyreeve.values import SignedCertificate
from support.running_ca import ADMIN, AUDITOR, OPERATOR, RunningCa, server_csr, some_key


@dataclass(frozen=True)
class RequestedExtension:
    """The arguments of one `sign`."""

    profile: str
    csr: bytes
    names: tuple[Name, ...] = ()
    lifetime: timedelta | None = None
    authority: str | None = None

    def ask(self, client: Any) -> Any:
        return client.certificates.sign(
            self.profile, self.csr, names=self.names, lifetime=self.lifetime, authority=self.authority
        )


GOOD = RequestedExtension("server", server_csr("web.example.test"))


def refused_extensions(ca: RunningCa) -> dict[str, RequestedExtension]:
    """One for each family of refusal that a caller can bring about."""
    csr, own = server_csr("web.example.test"), ca.profile()
    eleven = tuple(Name.dns(f"n{number}.example.test") for number in range(11))
    return {
        "CSR_MALFORMED": RequestedExtension("server", b"junk"),
        "CSR_TOO_LARGE": RequestedExtension("server", bytes(60_000)),
        "CSR_SIGNATURE_INVALID": RequestedExtension("server", csr[:-1] + bytes([csr[-1] ^ 1])),
        "KEY_TYPE_REFUSED": RequestedExtension(
            own, make_csr(ec.generate_private_key(ec.SECP384R1()), [Name.dns("a.example.test")])
        ),
        "NAME_REFUSED": RequestedExtension("server", server_csr("ca.svc.example.test")),
        "NAME_MISSING": RequestedExtension("server", make_csr(some_key())),
        "TOO_MANY_NAMES": RequestedExtension(own, server_csr(), eleven),
        "LIFETIME_REFUSED": RequestedExtension("server", csr, lifetime=timedelta(days=10_000)),
        "PROFILE_NOT_FOUND": RequestedExtension("nothing-like-it", csr),
        "PROFILE_NOT_ALLOWED": RequestedExtension("member", csr),
        "AUTHORITY_NOT_FOUND": RequestedExtension("server", csr, authority="nothing-like-it"),
        "AUTHORITY_STATE_WRONG": RequestedExtension("server", csr, authority=_root(ca)),
        "FIELD_INVALID": RequestedExtension("server", csr, lifetime=timedelta(seconds=-1)),
        "FIELD_INVALID, the whole batch": RequestedExtension("../server", csr),
    }


def _root(ca: RunningCa) -> str:
    return next(one.name for one in ca.client().authorities.list() if str(one.kind) == "root" and "estate" in one.name)


def together(context: Context, requested_extensions: Sequence[RequestedExtension]) -> list[Any]:
    """Ask for all at the same moment, so that they ride together."""

    async def ask() -> list[Any]:
        async with aio.Client(context) as client:
            return await asyncio.gather(
                *(requested_extensions.ask(client) for requested_extensions in requested_extensions),
                return_exceptions=True,
            )

    return asyncio.run(ask())


def one_by_one(context: Context, requested_extensions: Sequence[RequestedExtension]) -> list[Any]:
    def ask(client: Client, requested: RequestedExtension) -> Any:
        try:
            return requested.ask(client)
        except errors.KeyreeveError as refused:
            return refused

    with Client(context, coalesce=False) as client:
        return [ask(client, requested_extensions) for requested_extensions in requested_extensions]


def told(refused: Any) -> tuple[Any, ...]:
    """All that an error tells, but the id of the call that failed."""
    assert isinstance(refused, errors.KeyreeveError), refused
    metadata = {key: value for key, value in refused.metadata.items() if key != "request_id"}
    return type(refused), refused.reason, refused.message, metadata, refused.violations, refused.retry_after


def test_every_refusal_is_that_of_a_single_call_and_affects_no_other(ca: RunningCa) -> None:
    families = refused_extensions(ca)
    # A good one beside each: before it, so that it is not the refused one that goes first.
    requested_extensions = [one for requested in families.values() for one in (GOOD, requested)]
    context = ca.context(OPERATOR)
    answers, expected = together(context, requested_extensions), one_by_one(context, list(families.values()))
    assert [told(answer) for answer in answers[1::2]] == [told(error) for error in expected]
    assert all(isinstance(answer, SignedCertificate) for answer in answers[::2])
    assert len({told(error)[1] for error in expected}) >= 12


def test_certificates_that_rode_together_are_whole_and_each_its_callers(ca: RunningCa) -> None:
    names = [f"n{number}.example.test" for number in range(130)]
    answers = together(ca.context(ADMIN), [RequestedExtension("server", server_csr(name)) for name in names])
    [alone] = one_by_one(ca.context(ADMIN), [GOOD])
    assert {answer.chain_der for answer in answers} == {alone.chain_der}
    assert len({answer.serial for answer in answers}) == 130
    ids: Counter[str] = Counter()
    for name, answer in zip(names, answers, strict=True):
        leaf = x509.load_der_x509_certificate(answer.certificate_der)
        san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert san.get_values_for_type(x509.DNSName) == [name]
        assert (answer.not_before, answer.not_after) == (leaf.not_valid_before_utc, leaf.not_valid_after_utc)
        ids[ca.client().certificates.get(answer.serial).request_id] += 1
    assert sum(ids.values()) == 130
    assert 2 <= len(ids) < 20, "the ledger has the batches' ids"


def test_a_caller_who_may_not_sign_gets_the_error_of_a_single_call(ca: RunningCa) -> None:
    context = ca.context(AUDITOR)
    answers, [alone] = together(context, [GOOD] * 5), one_by_one(context, [GOOD])
    assert isinstance(alone, errors.KeyreeveError)
    assert {type(answer) for answer in answers} == {type(alone)}
    assert {answer.message for answer in answers} == {alone.message}


def test_a_halt_is_reported_as_for_a_single_call(own_ca: RunningCa) -> None:
    own_ca.client(ADMIN).issuance.halt("for a test")
    context = own_ca.context(ADMIN)
    answers, [alone] = together(context, [GOOD] * 5), one_by_one(context, [GOOD])
    assert isinstance(alone, errors.IssuanceHalted)
    assert [told(answer) for answer in answers] == [told(alone)] * 5


def test_with_as_many_calls_in_flight_as_they_like_single_callers_lose_none(sqlite_ca: RunningCa) -> None:
    """gRPC counts ended calls a moment too long: where clients reach its cap on a connection, it refuses some of these."""

    async def ask() -> None:
        async with aio.Client(sqlite_ca.context(ADMIN), retry=NO_RETRY) as client:

            async def again_and_again() -> None:
                for _ in range(4):
                    await client.profiles.get("server")

            await asyncio.gather(*(again_and_again() for _ in range(256)))

    asyncio.run(ask())
