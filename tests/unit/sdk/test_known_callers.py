"""The follower of the caller feed: accepted and refused updates, and its file."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from keyreeve.caller_feed import KnownCallers, update_message
from keyreeve.caller_values import CallersUpdate, IssuingAuthority, MemberRecord, OperatorRecord
from keyreeve.errors import CallersRefused
from keyreeve.identity import SpiffeId
from keyreeve.values import AuthorityState, MemberState, OperatorRole
from support.peer_certificates import TRUST_DOMAIN, Hierarchies, Leaf, TestCa

VECTORS = Path(__file__).parents[2] / "vectors"
ONE, TWO = (b"@" + bytes(14) + bytes([n]) for n in (1, 2))
ANN = OperatorRecord("operators/ann", "uid-1", OperatorRole.ADMIN, 7)
ANN_ID = f"spiffe://{TRUST_DOMAIN}/operators/admin/ann"


def issuing(ca: TestCa, state: AuthorityState = AuthorityState.ACTIVE, name: str = "control-1") -> IssuingAuthority:
    return IssuingAuthority(f"authorities/{name}", state, ca.certificate.public_bytes(Encoding.DER))


class World:
    """A signing CA service, a clock, and a follower."""

    def __init__(self, path: Path | None = None) -> None:
        self.hierarchies = Hierarchies.make()
        self.leaf = self.hierarchies.control.service("ca")
        self.time = float(int(self.leaf.certificate.not_valid_before_utc.timestamp()) + 600)
        self.roots = [self.hierarchies.control_root.certificate]
        self.callers = KnownCallers(TRUST_DOMAIN, path, now=self.now, clock=self.now)

    def now(self) -> float:
        return self.time

    def update(
        self,
        after: int,
        seq: int,
        *serials: bytes,
        head: int | None = None,
        restore_generation: int = 1,
        authorities: Sequence[IssuingAuthority] = (),
        operators: Sequence[OperatorRecord] = (),
        leaf: Leaf | None = None,
        chain: Sequence[bytes] | None = None,
        sessions: Sequence[str] = (),
    ) -> CallersUpdate:
        leaf = leaf or self.leaf
        revoked = tuple((serial, int(self.time) + 3600) for serial in serials)
        made = CallersUpdate(
            restore_generation,
            after,
            seq,
            seq if head is None else head,
            int(self.time),
            tuple(authorities),
            tuple(operators),
            revoked,
            closed_sessions=tuple((session, int(self.time) + 3600) for session in sessions),
        )
        key = load_pem_private_key(leaf.key_pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        der = [one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(leaf.chain_pem)]
        signature = key.sign(update_message(TRUST_DOMAIN, made), ec.ECDSA(hashes.SHA256()))
        return replace(made, signature=signature, signer_der=tuple(der if chain is None else chain))

    def apply(self, update: CallersUpdate) -> None:
        self.callers.apply(update, self.roots)

    def save(self) -> bool:
        saving = self.callers.saving()
        if saving is not None:
            saving()
        return saving is not None


def number(serial: bytes) -> int:
    return int.from_bytes(serial)


def known(callers: KnownCallers) -> list[bool]:
    return [callers.is_revoked(number(one)) for one in (ONE, TWO)]


# --- What is signed -------------------------------------------------------------------------------------------------


def test_what_is_signed_is_what_the_vectors_say() -> None:
    for vector in json.loads((VECTORS / "caller_updates.json").read_text())["vectors"]:
        update = CallersUpdate(
            *(vector[name] for name in ("restore_generation", "after_seq", "seq", "head_seq", "time")),
            tuple(
                IssuingAuthority(one["name"], AuthorityState(one["state"]), bytes.fromhex(one["certificate"]))
                for one in vector["authorities"]
            ),
            tuple(
                OperatorRecord(
                    one["name"], one["person_uid"], OperatorRole(one["role"]), one["since"], removed=one["removed"]
                )
                for one in vector["operators"]
            ),
            tuple((bytes.fromhex(one["serial"]), one["not_after"]) for one in vector["revoked"]),
            members=tuple(
                MemberRecord(
                    one["member_uid"],
                    one["identity"],
                    one["array"],
                    MemberState(one["state"]),
                    primary=one["primary"],
                    removed=one["removed"],
                )
                for one in vector.get("members", ())
            ),
        )
        assert update_message(vector["trust_domain"], update).hex() == vector["message"]


def test_the_vectors_are_what_their_generator_makes() -> None:
    subprocess.run([sys.executable, str(VECTORS / "make_caller_updates.py"), "--check"], check=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"seq": 2},
        {"head_seq": 2},
        {"restore_generation": 2},
        {"authorities": ()},
        {"operators": (replace(ANN, role=OperatorRole.AUDITOR),)},
        {"operators": (replace(ANN, since=8),)},
        {"revoked": ()},
        {"closed_sessions": ()},
        {"closed_sessions": (("s-2", 7),)},
        {"signer_der": ()},
        {"signer_der": (b"no certificate",)},
        {"signature": b""},
    ],
)
def test_nothing_of_an_update_can_be_changed(changes: dict[str, object]) -> None:
    world = World()
    authorities = [issuing(world.hierarchies.control)]
    update = world.update(0, 1, ONE, authorities=authorities, operators=[ANN], sessions=["s-1"])
    with pytest.raises(CallersRefused):
        world.apply(replace(update, **changes))  # type: ignore[arg-type]
    assert (world.callers.position, world.callers.issuers, world.callers.operators) == ((0, 0), (), {})
    assert known(world.callers) == [False, False]


# --- What is taken in -----------------------------------------------------------------------------------------------


def test_a_beginning_then_news_then_a_sign_of_life() -> None:
    world = World()
    assert world.callers.age() == float("inf")
    world.apply(world.update(0, 1, ONE))
    world.apply(world.update(1, 2, TWO, chain=()))
    assert known(world.callers) == [True, True]
    world.time += 3
    assert world.callers.age() == 3
    world.apply(world.update(2, 2, chain=()))
    assert world.callers.age() == 0


def test_issuing_cas_are_accepted_while_they_are_active_or_retiring() -> None:
    world = World()
    ca = world.hierarchies.control
    accepted = {}
    for seq, state in enumerate(AuthorityState):
        world.apply(world.update(seq, seq + 1, authorities=[issuing(ca, state)], leaf=world.leaf))
        accepted[state] = world.callers.issuers == (ca.certificate,)
        if state is AuthorityState.RETIRED:
            break
    assert accepted == {
        AuthorityState.PENDING: False,
        AuthorityState.INTRODUCED: False,
        AuthorityState.ACTIVE: True,
        AuthorityState.RETIRING: True,
        AuthorityState.RETIRED: False,
    }


def test_records_follow_people_through_roles_removal_and_names_used_again() -> None:
    world = World()
    world.apply(world.update(0, 1, operators=[ANN]))
    assert world.callers.operators == {ANN_ID: ANN}
    auditor = replace(ANN, role=OperatorRole.AUDITOR, since=9)
    world.apply(world.update(1, 2, operators=[auditor]))
    assert world.callers.operators == {f"spiffe://{TRUST_DOMAIN}/operators/auditor/ann": auditor}
    another = replace(ANN, person_uid="uid-2", since=20)
    world.apply(world.update(2, 4, operators=[replace(auditor, removed=True), another]))
    assert world.callers.operators == {ANN_ID: another}


def test_what_has_not_changed_stays_the_same_object() -> None:
    world = World()
    world.apply(world.update(0, 1, operators=[ANN], authorities=[issuing(world.hierarchies.control)]))
    issuers, operators = world.callers.issuers, world.callers.operators
    world.apply(world.update(1, 2, ONE))
    assert world.callers.issuers is issuers
    assert world.callers.operators is operators


def test_a_snapshot_in_parts_counts_when_it_is_complete() -> None:
    world = World()
    world.apply(world.update(0, 2, ONE, head=4, operators=[ANN]))
    assert (known(world.callers), world.callers.operators) == ([False, False], {})
    assert world.callers.age() == float("inf")
    world.apply(world.update(2, 4, TWO))
    assert (known(world.callers), set(world.callers.operators)) == ([True, True], {ANN_ID})
    assert (world.callers.position, world.callers.age()) == ((1, 4), 0)


def test_a_delta_in_parts_counts_at_once_and_is_fresh_when_it_is_complete() -> None:
    world = World()
    world.apply(world.update(0, 1))
    world.time += 3
    world.apply(world.update(1, 2, ONE, head=3))
    assert (known(world.callers), world.callers.age()) == ([True, False], 3)
    world.apply(world.update(2, 3, TWO))
    assert (known(world.callers), world.callers.age()) == ([True, True], 0)


def test_news_that_do_not_follow_are_refused_and_nothing_changes() -> None:
    world = World()
    world.apply(world.update(0, 3, ONE, restore_generation=2))
    world.time += 2
    for wrong in (
        world.update(4, 5, TWO, restore_generation=2),
        world.update(1, 5, TWO, restore_generation=2),
        world.update(3, 5, TWO, restore_generation=3),
        world.update(0, 5, TWO, restore_generation=1),
        world.update(3, 2, TWO, restore_generation=2),
        world.update(3, 5, TWO, head=4, restore_generation=2),
    ):
        with pytest.raises(CallersRefused):
            world.apply(wrong)
    assert (world.callers.position, world.callers.age(), known(world.callers)) == ((2, 3), 2, [True, False])


def test_a_snapshot_of_the_same_generation_takes_no_revocation_back_and_one_of_another_does() -> None:
    world = World()
    world.apply(world.update(0, 3, ONE, operators=[ANN]))
    world.apply(world.update(0, 2, TWO))
    assert (known(world.callers), world.callers.operators) == ([True, True], {})
    world.apply(world.update(0, 1, TWO, restore_generation=2))
    assert known(world.callers) == [False, True]


def test_a_closed_session_stays_closed_until_it_would_have_ended(tmp_path: Path) -> None:
    path = tmp_path / "callers.json"
    world = World(path)
    world.apply(world.update(0, 1, sessions=["s-1"]))
    world.apply(world.update(0, 2))  # another snapshot
    assert world.save()
    again = world.callers = KnownCallers.load(TRUST_DOMAIN, path, now=world.now, clock=world.now)
    assert (again.is_session_closed("s-1"), again.is_session_closed("s-2")) == (True, False)
    world.time += 5000
    world.apply(world.update(2, 3))
    assert not again.is_session_closed("s-1")


def test_a_certificate_of_an_authority_that_cannot_be_read_is_refused() -> None:
    world = World()
    broken = IssuingAuthority("authorities/x", AuthorityState.ACTIVE, b"nothing")
    with pytest.raises(CallersRefused):
        world.apply(world.update(0, 1, ONE, authorities=[broken]))
    assert world.callers.position == (0, 0)


# --- Whose word it is -----------------------------------------------------------------------------------------------


def test_only_the_ca_service_of_the_control_hierarchy_is_believed() -> None:
    world, other = World(), World()
    control = world.hierarchies.control
    member = control.person("members/web.example.test")
    forged = TestCa(member.certificate, member.key, (member.certificate, *member.issuers)).service("ca")
    strangers = {
        "another role": control.service("membership"),
        "a person": control.person("operators/admin/ann"),
        "another hierarchy": other.leaf,
        "another trust domain": control.service("ca", trust_domain="other.test"),
        "two names": control.leaf(uris=[str(SpiffeId(TRUST_DOMAIN, ("services", "ca", one))) for one in "ab"]),
        "signed by a member": forged,
    }
    for who, leaf in strangers.items():
        with pytest.raises(CallersRefused):
            world.apply(world.update(0, 1, ONE, leaf=leaf))
        assert known(world.callers) == [False, False], who
    with pytest.raises(CallersRefused):
        world.apply(world.update(0, 1, ONE, chain=()))


def test_a_signer_that_has_been_revoked_is_not_believed_any_more() -> None:
    world = World()
    revoked = world.leaf.certificate.serial_number.to_bytes(20, "big")
    world.apply(world.update(0, 1, revoked))
    with pytest.raises(CallersRefused, match="revoked"):
        world.apply(world.update(1, 2, ONE))
    world.apply(world.update(1, 2, ONE, leaf=world.hierarchies.control.service("ca")))
    gone = issuing(world.hierarchies.control, AuthorityState.REVOKED)
    another = world.hierarchies.control_root.issuing("control issuing 2")
    world.apply(world.update(2, 3, authorities=[gone], leaf=another.service("ca")))
    with pytest.raises(CallersRefused, match="revoked"):
        world.apply(world.update(3, 4, TWO, leaf=world.hierarchies.control.service("ca")))
    world.apply(world.update(3, 4, TWO, leaf=another.service("ca")))
    assert known(world.callers) == [True, True]


def test_a_signer_outside_its_validity_is_not_believed() -> None:
    world = World()
    world.apply(world.update(0, 1, ONE))
    world.time = world.leaf.certificate.not_valid_after_utc.timestamp() + 5
    with pytest.raises(CallersRefused, match="not valid now"):
        world.apply(world.update(1, 2))


def test_an_old_update_played_again_is_refused() -> None:
    world = World()
    old = world.update(0, 1, ONE)
    world.time += 61
    with pytest.raises(CallersRefused, match="dated"):
        world.apply(old)


# --- What stays on disk ---------------------------------------------------------------------------------------------


def test_what_is_known_outlives_the_process_with_its_age_and_forgets_what_has_expired(tmp_path: Path) -> None:
    path = tmp_path / "callers.json"
    world = World(path)
    world.apply(world.update(0, 2, ONE, TWO, operators=[ANN], authorities=[issuing(world.hierarchies.control)]))
    assert world.save()
    world.time += 120
    again = KnownCallers.load(TRUST_DOMAIN, path, now=world.now, clock=world.now)
    assert (again.position, again.age()) == ((1, 2), 120)
    assert (again.issuers, again.operators) == (world.callers.issuers, world.callers.operators)
    assert known(again) == [True, True]
    assert path.stat().st_mode & 0o777 == 0o600
    world.time += 5000
    world.callers = again
    world.apply(world.update(2, 3))
    assert known(again) == [False, False]


def test_the_file_is_written_after_changes_and_now_and_then(tmp_path: Path) -> None:
    world = World(tmp_path / "callers.json")
    assert not world.save(), "nothing is known"
    world.apply(world.update(0, 2, ONE, head=3))
    assert not world.save(), "a snapshot is not complete"
    world.apply(world.update(2, 3))
    assert world.save()
    world.time += 59
    world.apply(world.update(3, 3))
    assert not world.save()
    world.time += 1
    world.apply(world.update(3, 3))
    assert world.save()
    world.apply(world.update(3, 4, TWO))
    assert world.save()


@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"trust_domain": "other.test"}', "\x00", "cut", "certificate"])
def test_a_file_that_cannot_be_read_is_as_none(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "callers.json"
    world = World(path)
    world.apply(world.update(0, 1, ONE, authorities=[issuing(world.hierarchies.control)]))
    assert world.save()
    whole = path.read_text()
    kept = json.loads(whole)
    kept["authorities"][0][2] = "AAAA"
    path.write_text({"cut": whole[:-20], "certificate": json.dumps(kept)}.get(damage, damage))
    loaded = KnownCallers.load(TRUST_DOMAIN, path)
    assert (loaded.position, loaded.age(), loaded.issuers) == ((0, 0), float("inf"), ())
    assert known(loaded) == [False, False]


def test_another_trust_domains_file_is_as_none(tmp_path: Path) -> None:
    path = tmp_path / "callers.json"
    world = World(path)
    world.apply(world.update(0, 1, ONE))
    assert world.save()
    assert KnownCallers.load("other.test", path).position == (0, 0)
