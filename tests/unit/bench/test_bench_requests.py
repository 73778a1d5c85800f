"""Requests of a benchmark: request ids, certificate requests, prepared messages."""

import uuid
from itertools import count
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from keyreeve.ca.v1 import certificate_service_pb2 as pb
from keyreeve_bench import corpus, messages
from keyreeve_bench.request_ids import marked_ids, new_marker

SERIALS = ["%032x" % (1 << 120 | n) for n in range(3)]


def test_ids_are_uuids_of_version_7_that_end_in_the_marker() -> None:
    marker = new_marker()
    next_id = marked_ids(marker, 5)
    for _ in range(300):
        text = next_id()
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 7, uuid.RFC_4122)
        assert text.endswith(f"-{marker}")


def test_ids_of_one_millisecond_differ_in_and_between_processes() -> None:
    sources = [marked_ids("0" * 12, process, lambda: 1_800_000_000_000) for process in (0, 1, 63)]
    ids = [source() for source in sources for _ in range(5000)]
    assert len(set(ids)) == len(ids)


def test_later_ids_sort_later() -> None:
    clock = count(1_800_000_000_000)
    next_id = marked_ids("f" * 12, 0, lambda: next(clock))
    ids = [next_id() for _ in range(1000)]
    assert ids == sorted(ids)


def test_a_process_beyond_the_last_gets_no_ids() -> None:
    with pytest.raises(ValueError, match="64"):
        marked_ids("0" * 12, 64)


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        ("p256", ec.EllipticCurvePublicKey),
        ("p384", ec.EllipticCurvePublicKey),
        ("rsa2048", rsa.RSAPublicKey),
        ("ed25519", ed25519.Ed25519PublicKey),
    ],
)
def test_every_request_is_signed_by_a_key_of_its_kind_and_has_a_name_of_its_own(keys: str, kind: type) -> None:
    made = [x509.load_der_x509_csr(csr) for csr in corpus.make_corpus(keys, "bench.example.test", share=0.02)]
    assert all(csr.is_signature_valid and isinstance(csr.public_key(), kind) for csr in made)
    names = [
        csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
        for csr in made
    ]
    assert len({name for (name,) in names}) == len(made)
    assert all(name.endswith(".bench.example.test") for (name,) in names)


def test_a_mix_alternates_between_all_kinds() -> None:
    made = [x509.load_der_x509_csr(csr).public_key() for csr in corpus.make_corpus("mix", "a.test", share=0.02)]
    assert len(made) % 4 == 0
    assert [type(key) for key in made[:4]] == [type(key) for key in made[4:8]]
    assert len({(type(key), getattr(key, "key_size", 0)) for key in made[:4]}) == 4


def test_a_corpus_comes_back_from_its_file(tmp_path: Path) -> None:
    items = [b"", b"a", bytes(70_000)]
    corpus.save(tmp_path / "corpus", items)
    assert corpus.load(tmp_path / "corpus") == items


def test_a_prepared_request_with_its_id_is_the_whole_request() -> None:
    (prepared,) = messages.prepare("server", [b"csr"], 1)
    request = pb.SignCertificateRequest.FromString(messages.with_request_id(prepared, str(uuid.UUID(int=7))))
    assert (request.item.profile, request.item.csr, request.request_id) == (
        "profiles/server",
        b"csr",
        str(uuid.UUID(int=7)),
    )


def test_batches_go_through_the_whole_corpus() -> None:
    prepared = messages.prepare("server", [b"a", b"b", b"c", b"d"], 2)
    batches = [pb.SignCertificatesRequest.FromString(messages.with_request_id(one, "i" * 36)) for one in prepared]
    assert [[item.csr for item in batch.items] for batch in batches] == [[b"a", b"b"], [b"c", b"d"]]
    assert {batch.request_id for batch in batches} == {"i" * 36}


def test_a_batch_larger_than_the_corpus_repeats_it() -> None:
    (prepared,) = messages.prepare("server", [b"a", b"b"], 5)
    assert [item.csr for item in pb.SignCertificatesRequest.FromString(prepared).items] == [
        b"a",
        b"b",
        b"a",
        b"b",
        b"a",
    ]


def test_the_serial_number_of_an_answer_is_found() -> None:
    answer = pb.SignCertificateResponse(certificate=pb.Certificate(name=f"certificates/{SERIALS[0]}", identity="x"))
    assert messages.serials_in(answer.SerializeToString()) == [SERIALS[0].encode()]


def test_the_certificate_that_an_answer_renews_is_not_taken_for_another() -> None:
    certificate = pb.Certificate(name=f"certificates/{SERIALS[0]}", renews=f"certificates/{SERIALS[1]}")
    answer = pb.SignCertificateResponse(certificate=certificate)
    assert messages.serials_in(answer.SerializeToString()) == [SERIALS[0].encode()]


def test_refused_items_of_a_batch_are_counted_by_reason() -> None:
    answer = pb.SignCertificatesResponse()
    answer.outcomes.add().error.reason = "NAME_REFUSED"
    data = answer.SerializeToString()
    assert messages.serials_in(data) == []
    assert messages.failures_in(data) == [("INVALID_ARGUMENT", "NAME_REFUSED")]
