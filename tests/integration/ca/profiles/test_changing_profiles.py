"""ProfileService: create, update and simulate documents, and the certificates issued under them."""

import json
from datetime import timedelta

import pytest

from keyreeve import Name, SignItem
from keyreeve.keys import make_csr, make_key
from keyreeve.values import SimulatedOutcome
from keyreeve_ca.profiles.builtin import BUILTIN_NAMES
from support.running_ca import (
    ADMIN,
    AUDITOR,
    MEMBER,
    OPERATOR,
    RunningCa,
    document,
    names_of,
    refused,
    server_csr,
    some_key,
    unique,
)


def sign(ca: RunningCa, profile: str, *names: str, path: str = ADMIN, **requested_extensions: object) -> None:
    ca.client(path).certificates.sign(profile, server_csr(*names), **requested_extensions)


# --- Making and reading -------------------------------------------------------------------------------------------------


def test_a_new_profile_is_usable_at_once_and_read_back_in_canonical_form(ca: RunningCa):
    name = unique("profile")
    yaml = "hierarchy: estate\ndescription: From YAML.\nrequesters: [operators/admin]\nkeys: [p256]\n"
    yaml += 'lifetime: {default: 24h, maximum: 2d}\nnames: {dns: {maximum: 1, patterns: ["*.example.test"]}}\n'
    made = ca.client().profiles.create(name, yaml + "usage: {extended: [server_auth]}\n")
    sign(ca, name, "web.example.test")
    for worker in (0, 1):
        assert ca.client(MEMBER, worker=worker).profiles.get(name) == made
    assert (made.version, made.creator, made.built_in, made.halted) == (1, ca.identity(ADMIN), False, False)
    assert json.loads(made.document)["lifetime"]["default"] == "1d"
    sign(ca, name, "db.example.test")


def test_the_built_in_profiles_are_there_and_say_so(ca: RunningCa):
    profiles = {p.name.partition("/")[2]: p for p in ca.client(AUDITOR).profiles.list(page_size=3)}
    assert {name for name, p in profiles.items() if p.built_in} == set(BUILTIN_NAMES)
    assert all(profiles[name].creator == "built-in" for name in BUILTIN_NAMES)


def test_a_document_is_validated_whole_with_every_problem_and_the_nearest_name(ca: RunningCa):
    bad = document(lifetme={"default": "1d"}, keys=["p257"], names={"dns": {"maximum": 1, "patterns": ["**.**"]}})
    told = refused(lambda: ca.client().profiles.create(unique("bad"), bad))
    assert told.reason == "PROFILE_INVALID"
    found = {v.field: v.description for v in told.violations}
    assert "lifetime" in found["lifetme"], "the nearest name"
    assert any(field.startswith("keys") for field in found)


@pytest.mark.parametrize(
    "changes",
    [
        {"may_use_reserved_names": True},
        {"names": {"dns": {"maximum": 1, "patterns": ["*.svc.example.test"]}}},
        {"names": {"uri": {"maximum": 1, "templates": ["spiffe://example.test/workloads/{x}"]}}},
        {"lifetime": {"default": "60d", "maximum": "30d"}},
        {"hierarchy": "control"},
        {"names": {}},
    ],
)
def test_an_unsound_document_is_refused(ca: RunningCa, changes: dict[str, object]):
    assert refused(lambda: ca.client().profiles.create(unique("bad"), document(**changes))).reason == "PROFILE_INVALID"


@pytest.mark.parametrize("text", ["", "[]", "a: &x 1\nb: *x", "hierarchy: estate\ntree: control", "\0", "x" * 70_000])
def test_what_is_no_document_is_refused(ca: RunningCa, text: str):
    assert refused(lambda: ca.client().profiles.create(unique("bad"), text)).reason == "PROFILE_INVALID"


@pytest.mark.parametrize("profile_id", ["", "A", "1a", "a_b", "a-", "a" * 64, "a/b", "a\0"])
def test_an_id_that_is_none_is_refused(ca: RunningCa, profile_id: str):
    told = refused(lambda: ca.client().profiles.create(profile_id, document()))
    assert (told.reason, told.violations[0].field) == ("FIELD_INVALID", "profile_id")


def test_ids_are_used_once(ca: RunningCa):
    name = ca.profile()
    assert refused(lambda: ca.client().profiles.create(name, document())).reason == "PROFILE_EXISTS"
    assert refused(lambda: ca.client().profiles.create("server", document())).reason == "PROFILE_EXISTS"


def test_two_profiles_may_have_the_same_document(ca: RunningCa):
    first, second = (ca.client().profiles.get(ca.new_profile(keys=["p384"])) for _ in range(2))
    assert first.sha256 == second.sha256
    csr = make_csr(make_key(), [Name.dns("a.test")])
    assert refused(lambda: ca.client().certificates.sign(second.name, csr)).reason == "KEY_TYPE_REFUSED"


@pytest.mark.parametrize("version", [2, 1000, 2**31 - 1])
def test_a_version_that_there_is_not_is_not_found(ca: RunningCa, version: int):
    assert refused(lambda: ca.client().profiles.get("server", version)).reason == "PROFILE_NOT_FOUND"


def test_a_version_below_one_is_refused(ca: RunningCa):
    assert refused(lambda: ca.client().profiles.get("server", -1)).reason == "FIELD_INVALID"


# --- Changing -----------------------------------------------------------------------------------------------------------


def test_a_new_version_is_what_later_certificates_are_issued_under_and_the_older_ones_stay(ca: RunningCa):
    name = ca.new_profile()
    before = ca.client().certificates.sign(name, server_csr("a.test"))
    changed = ca.client(ADMIN).profiles.update(name, document(lifetime={"default": "1d", "maximum": "1d"}), version=1)
    after = ca.client().certificates.sign(name, server_csr("a.test"))
    assert changed.version == 2
    assert after.not_after - after.not_before == timedelta(days=1, seconds=-1)
    assert [ca.client().certificates.get(s.serial).profile_version for s in (before, after)] == [1, 2]
    old = ca.client().profiles.get(name, 1)
    assert json.loads(old.document)["lifetime"]["default"] == "30d"
    assert ca.client().profiles.get(name).version == 2


def test_an_update_of_another_version_than_was_read_is_refused(ca: RunningCa):
    name = ca.new_profile()
    ca.client().profiles.update(name, document(keys=["p256"]))
    for stale in (1, 3):
        told = refused(lambda stale=stale: ca.client().profiles.update(name, document(), version=stale))
        assert (told.reason, told.metadata["version"]) == ("PROFILE_VERSION_STALE", "2")


def test_an_equal_document_makes_no_version_however_it_is_written(ca: RunningCa):
    name = ca.new_profile()
    shuffled = json.dumps(dict(reversed(json.loads(document(keys=["rsa2048", "p256"])).items())), indent=4)
    assert ca.client().profiles.update(name, shuffled).version == 1
    assert ca.client().profiles.update(name, document(keys=["p256"])).version == 2
    assert ca.client().profiles.update(name, document()).version == 3, "back to the first is a change too"


def test_the_built_in_profiles_change_only_with_a_release(ca: RunningCa):
    for name in BUILTIN_NAMES:
        told = refused(lambda name=name: ca.client().profiles.update(name, document()))
        assert told.reason == "PROFILE_INVALID"
    assert refused(lambda: ca.client().profiles.update(unique("none"), document())).reason == "PROFILE_NOT_FOUND"


def test_a_document_under_which_certificates_would_not_lint_clean_is_refused(
    ca: RunningCa, monkeypatch: pytest.MonkeyPatch
):
    name = ca.new_profile()
    monkeypatch.setattr("keyreeve_ca.certificates.linter.PkilintLinter.profile", lambda *_: ["a finding"])
    for step in (
        lambda: ca.client().profiles.update(name, document(keys=["p256"])),
        lambda: ca.client().profiles.create(unique("other"), document()),
    ):
        told = refused(step)
        assert told.reason == "LINT_FINDINGS"
        assert "estate-issuing-1: a finding" in told.metadata["findings"]
    assert ca.client().profiles.get(name).version == 1


def test_real_documents_lint_clean(real_lint: None, ca: RunningCa):
    ca.client().profiles.update(ca.new_profile(), document(keys=["p256"]))


# --- Trying -------------------------------------------------------------------------------------------------------------


def test_a_simulation_counts_exactly_what_would_be_the_same_differ_and_be_refused(ca: RunningCa):
    name = ca.new_profile()
    for host in ("a.example.test", "b.example.test", "c.other.test"):
        sign(ca, name, host)
    sign(ca, name, "d.example.test", lifetime=timedelta(days=5))
    sign(ca, name, "e.example.test", names=[Name.dns("f.other.test")])
    simulate = ca.client(OPERATOR).profiles.simulate
    same = simulate(name, document())
    assert (same.examined, same.same, same.different, same.refused, same.issuances) == (5, 5, 0, 0, ())

    narrower = simulate(name, document(names={"dns": {"maximum": 10, "patterns": ["*.example.test"]}}))
    assert (narrower.examined, narrower.same, narrower.different, narrower.refused) == (5, 3, 0, 2)
    assert {i.reason for i in narrower.issuances} == {"NAME_REFUSED"}
    assert {i.outcome for i in narrower.issuances} == {SimulatedOutcome.REFUSED}

    shorter = simulate(name, document(lifetime={"default": "20d", "maximum": "60d"}))
    assert (shorter.same, shorter.different, shorter.refused) == (1, 4, 0), (
        "a requested lifetime of 5 days is still allowed"
    )
    assert f"{30 * 86_400} -> {20 * 86_400}" in shorter.issuances[0].message

    both = simulate(
        name,
        document(
            usage={"extended": ["server_auth", "client_auth"]},
            names={"dns": {"maximum": 1, "patterns": ["**"]}},
        ),
    )
    assert (both.same, both.different, both.refused) == (0, 4, 1)
    assert {i.reason for i in both.issuances} == {"", "TOO_MANY_NAMES"}


def test_a_simulation_looks_at_the_newest_and_stores_nothing(ca: RunningCa):
    name = ca.new_profile()
    for n in range(4):
        sign(ca, name, f"n{n}.test")
    tried = ca.client().profiles.simulate(name, document(keys=["rsa2048"]), sample_size=3)
    assert (tried.examined, tried.refused) == (3, 3)
    issued = {c.name for c in ca.client().certificates.list(profile=name)}
    assert len({i.certificate for i in tried.issuances} & issued) == 3
    assert ca.client().profiles.get(name).version == 1


def test_a_renewed_certificate_simulates_like_its_first(ca: RunningCa):
    name, key = ca.new_profile(), make_key()
    csr = make_csr(key, [Name.dns("b.test"), Name.dns("a.test")], common_name="a.test")
    first = ca.client().certificates.sign(name, csr, lifetime=timedelta(days=7))
    ca.client().certificates.renew(first.serial, make_csr(some_key()), old_key=key)
    assert ca.client().profiles.simulate(name, document()).same == 2


def test_the_issuances_that_are_listed_are_a_hundred_at_most(ca: RunningCa):
    name = ca.new_profile()
    for _ in range(2):
        ca.client().certificates.sign_many([SignItem(name, server_csr("a.test"))] * 60)
    tried = ca.client().profiles.simulate(name, document(keys=["rsa2048"]), sample_size=1000)
    assert (tried.examined, tried.refused, len(tried.issuances)) == (120, 120, 100)
    assert ca.client().profiles.simulate(name, document(keys=["rsa2048"])).examined == 100


@pytest.mark.parametrize("size", [-1, 1001])
def test_a_sample_of_none_or_too_many_is_refused(ca: RunningCa, size: int):
    told = refused(lambda: ca.client().profiles.simulate("server", document(), sample_size=size))
    assert (told.reason, told.violations[0].field) == ("FIELD_INVALID", "sample_size")


def test_a_simulation_of_nothing_or_with_nonsense_is_refused(ca: RunningCa):
    assert refused(lambda: ca.client().profiles.simulate(unique("none"), document())).reason == "PROFILE_NOT_FOUND"
    assert refused(lambda: ca.client().profiles.simulate(ca.profile(), "{}")).reason == "PROFILE_INVALID"


def test_profiles_are_listed_in_order_of_their_names(ca: RunningCa):
    ca.new_profile()
    names = names_of(list(ca.client(MEMBER).profiles.list(page_size=2)))
    assert names == sorted(names)
    assert len(names) == len(set(names)) >= 9
