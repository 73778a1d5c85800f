"""Every command renews the certificate it uses when due, and says what to do when it may not."""

import os
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519

from keyreeve import Client, Context, errors
from keyreeve.cli import client_certificate as serving_certificate
from keyreeve.cli.client_certificate import renew_if_due
from keyreeve.enrollment import IdentityRenewal
from keyreeve.keys import load_certificates, load_key, make_csr, make_key
from keyreeve.renewal_files import lock_pair, next_path
from keyreeve.values import OperatorRole
from keyreeve_ca.operators.ports import INVITATION_SECONDS
from support.command_line import Run, runner
from support.device import Device
from support.running_ca import ADMIN, RunningCa, place_for_ca, refused, unique
from support.waiting import wait_for

pytestmark = pytest.mark.sqlite_first


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(capsys)


@pytest.fixture
def context(ca: RunningCa) -> Context:
    """The context of an operator of the test's own, saved beside its files."""
    made = ca.new_context(f"operators/operator/{unique('olga')}")
    file = made.key.with_name("context.json")
    made.save(file)
    return replace(made, path=file)


def leaf_of(context: Context) -> x509.Certificate:
    return x509.load_der_x509_certificate(load_certificates(context.certificate)[0])


def fits(context: Context) -> bool:
    return load_key(context.key).public_key() == leaf_of(context).public_key()


def at(context: Context, share: float) -> float:
    """A time in the life of the certificate."""
    leaf = leaf_of(context)
    begin, end = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
    return begin + (end - begin) * share


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the command line takes for the time."""
    time = [0.0]
    whole = serving_certificate.renew_if_due, serving_certificate.explain_failure
    monkeypatch.setattr(serving_certificate, "renew_if_due", lambda context: whole[0](context, lambda: time[0]))
    monkeypatch.setattr(
        serving_certificate, "explain_failure", lambda context, failure: whole[1](context, failure, lambda: time[0])
    )
    return time


def test_a_command_in_the_last_third_of_the_life_renews_first_and_says_nothing_of_it(
    context: Context, run: Run, clock: list[float]
) -> None:
    before = leaf_of(context)
    clock[0] = at(context, 0.66)
    assert run("whoami", "--context", context.path, "-o", "json").code == 0
    assert leaf_of(context) == before
    clock[0] = at(context, 0.67)
    ran = run("whoami", "--context", context.path, "-o", "json")
    assert (ran.code, ran.err) == (0, "")
    after = leaf_of(context)
    assert ran.document["serial"] == f"{after.serial_number:032x}" != f"{before.serial_number:032x}"
    assert ran.document["certificate"] == "valid"
    assert fits(context)
    clock[0] = at(context, 0.1)
    assert run("whoami", "--context", context.path, "-o", "json").document["serial"] == ran.document["serial"]
    assert not [path for path in context.key.parent.iterdir() if path.name.endswith(".next")]
    assert context.key.stat().st_mode & 0o777 == 0o600


def test_of_many_commands_at_once_one_renews_and_all_succeed(context: Context) -> None:
    before, when = leaf_of(context), at(context, 0.7)
    begin, outcomes = threading.Barrier(8), []

    def command() -> None:
        begin.wait(20)
        renew_if_due(context, lambda: when)
        with Client(context) as client:
            outcomes.append(client.certificates.get(f"{before.serial_number:032x}").state.value)

    threads = [threading.Thread(target=command) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert outcomes == ["valid"] * 8
    assert fits(context)
    with Client(context) as client:
        renewed = client.certificates.get(f"{leaf_of(context).serial_number:032x}")
    assert renewed.renews == f"certificates/{before.serial_number:032x}", "it was renewed once"


def test_while_another_program_renews_a_command_goes_on_with_what_there_is(
    context: Context, run: Run, clock: list[float]
) -> None:
    before = leaf_of(context)
    clock[0] = at(context, 0.9)
    with lock_pair(context.key) as ours:
        assert ours
        ran = run("authority", "list", "--context", context.path, "-q")
        assert (ran.code, ran.err) == (0, "")
        with Client(context) as client, pytest.raises(errors.FileUnusable, match="is renewing"):
            IdentityRenewal(context, client).renew()
    assert leaf_of(context) == before
    assert run("authority", "list", "--context", context.path, "-q").code == 0
    assert leaf_of(context) != before


def test_a_failed_renewal_is_reported_and_the_command_succeeds(
    context: Context, run: Run, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = leaf_of(context)
    clock[0] = at(context, 0.9)
    monkeypatch.setattr(serving_certificate, "RENEW_SECONDS", 0.000001)
    ran = run("authority", "list", "--context", context.path, "-q")
    assert ran.code == 0
    assert "note: your certificate is valid until" in ran.err
    monkeypatch.undo()
    assert leaf_of(context) == before
    assert fits(context)


def test_files_of_another_user_are_left_alone(
    context: Context, run: Run, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = leaf_of(context)
    clock[0] = at(context, 0.9)
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    ran = run("authority", "list", "--context", context.path, "-q")
    assert (ran.code, ran.err) == (0, "")
    assert leaf_of(context) == before


@pytest.mark.parametrize("moved", ["nothing", "the key"])
def test_a_command_finishes_what_another_left_half_done_and_calls_between_the_moves_succeed(
    context: Context, run: Run, clock: list[float], moved: str
) -> None:
    old_key, old_certificate = context.key.read_bytes(), context.certificate.read_bytes()
    renew_if_due(context, lambda: at(context, 0.9))
    renewed, new_key = leaf_of(context), context.key.read_bytes()
    next_path(context.certificate).write_bytes(context.certificate.read_bytes())
    context.certificate.write_bytes(old_certificate)
    if moved == "nothing":
        next_path(context.key).write_bytes(new_key)
        context.key.write_bytes(old_key)
    with Client(context) as client:
        assert client.certificates.get(f"{renewed.serial_number:032x}")
    clock[0] = at(context, 0.1)
    assert run("authority", "list", "--context", context.path, "-q").code == 0
    assert leaf_of(context) == renewed
    assert fits(context)


def name_in(context: Context) -> str:
    """The person's name."""
    found = leaf_of(context).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return str(next(iter(found)).value).rpartition("/")[2]


def end_invitation(ca: RunningCa, context: Context) -> None:
    """Let the last invitation of a person be more than seven days ago, for every worker."""
    name = name_in(context)

    def long_ago(tx) -> None:
        person = tx.operators.find(name)
        tx.operators.update(replace(person, invited_at=ca.clock.now() - INVITATION_SECONDS - 5))
        tx.bump_config()

    ca.write(long_ago)
    for serving in ca.servings:
        wait_for("the worker knows", lambda serving=serving: record(serving.live, name).renews_until < ca.clock.now())


def record(live, name: str):
    """What a worker knows of a person."""
    return next(person for person in live.current().operators.values() if person.name == name)


def test_after_the_seven_days_a_command_says_who_has_to_do_what_and_an_invitation_is_enough(
    ca: RunningCa, context: Context, run: Run, clock: list[float]
) -> None:
    name, before, live = name_in(context), leaf_of(context), ca.servings[0].live
    end_invitation(ca, context)
    clock[0] = at(context, 0.9)
    ran = run("authority", "list", "--context", context.path, "-q")
    assert ran.code == 0
    assert "keyreeve operator invite" in ran.err
    assert "7 days" in ran.err
    assert leaf_of(context) == before

    ca.client(ADMIN).operators.invite(name, OperatorRole.OPERATOR, address="127.0.0.1:1")
    wait_for("the worker knows", lambda: record(live, name).renews_until > ca.clock.now())
    assert run("authority", "list", "--context", context.path, "-q").err == ""
    assert leaf_of(context) != before


@pytest.mark.parametrize(("kind", "command"), [("sqlite", ("authority", "list")), ("postgresql", ("whoami",))])
def test_with_an_expired_certificate_a_command_says_so_and_what_to_do(
    kind: str, command: tuple[str, ...], request: pytest.FixtureRequest, run: Run, tmp_path: Path
) -> None:
    with place_for_ca(kind, request) as (directory, settings):
        ca = RunningCa(settings, directory, workers=1)
        ca.clock.offset = -13 * 3600  # what it issues now has expired for everybody else
        ca.start()
        try:
            context = ca.new_context("operators/operator/olga")
            context.save(tmp_path / "context.json")
            ca.clock.offset = 0
            before = context.certificate.read_bytes()
            ran = run(*command, "--context", tmp_path / "context.json")
            assert ran.code == 4
            assert "your certificate expired at" in ran.err
            assert "PEER_CERTIFICATE_EXPIRED" in ran.err
            assert "keyreeve operator accept --dir" in ran.err
            assert context.certificate.read_bytes() == before
        finally:
            ca.stop()


@pytest.fixture
def device(ca: RunningCa, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    """A device in the record of a person whose invitation is over, and an `ssh-keygen` on PATH that it signs for."""
    made = Device(ed25519.Ed25519PrivateKey.from_private_bytes(os.urandom(32)))
    ca.client(ADMIN).operators.update(name_in(context), keys=[made.line])
    program = tmp_path / "bin" / "ssh-keygen"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\n"
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[3])!r})\n"
        "from cryptography.hazmat.primitives.asymmetric import ed25519\n"
        "from support.device import Device, armored\n"
        "assert sys.argv[1:6] == ['-Y', 'sign', '-n', 'keyreeve-renew-1', '-f'], sys.argv\n"
        "key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(open(sys.argv[6]).read()))\n"
        "sys.stdout.write(armored(Device(key).sign(sys.stdin.buffer.read())))\n"
    )
    program.chmod(0o755)
    (tmp_path / "key").write_text(made.key.private_bytes_raw().hex())  # type: ignore[union-attr]
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    end_invitation(ca, context)
    return made


@pytest.mark.usefixtures("device")
def test_after_the_seven_days_a_touch_of_a_device_stands_in_for_an_invitation(
    context: Context, run: Run, tmp_path: Path
) -> None:
    before = leaf_of(context)
    assert "INVITATION_EXPIRED" in run("cert", "renew", "--context", context.path).err
    assert leaf_of(context) == before
    assert run("cert", "renew", "--context", context.path, "--device-key", tmp_path / "key").code == 0
    assert leaf_of(context) != before
    assert fits(context)
    again = run("cert", "renew", "--context", context.path)
    assert "INVITATION_EXPIRED" in again.err, "one touch, one certificate"


def test_only_a_touch_of_a_device_in_the_record_for_this_very_renewal_counts(
    ca: RunningCa, context: Context, device: Device
) -> None:
    serial, csr = f"{leaf_of(context).serial_number:032x}", make_csr(make_key())
    with Client(context) as client:

        def outcome(touch) -> str:
            return refused(lambda: client.certificates.renew(serial, csr, touch=touch)).reason

        stranger = Device(ed25519.Ed25519PrivateKey.generate())
        kept: list[bytes] = []
        assert outcome(None) == "INVITATION_EXPIRED"
        assert outcome(stranger.sign) == "RENEWAL_PROOF_INVALID"
        assert outcome(lambda message: device.sign(message, flags=0)) == "RENEWAL_PROOF_INVALID"
        assert outcome(lambda message: device.sign(message[:-1])) == "RENEWAL_PROOF_INVALID"
        assert outcome(lambda message: kept.append(device.sign(message)) or b"") == "RENEWAL_PROOF_INVALID"
        other = make_csr(make_key())
        told = refused(lambda: client.certificates.renew(serial, other, touch=lambda _message: kept[0]))
        assert told.reason == "RENEWAL_PROOF_INVALID", "it was for another key and nonce"
        ca.client(ADMIN).operators.update(name_in(context), keys=[])
        live = ca.servings[0].live
        wait_for("the worker knows", lambda: not record(live, name_in(context)).keys)
        assert outcome(device.sign) == "INVITATION_EXPIRED", "the key has been taken out of the record"


@pytest.mark.usefixtures("device")
def test_without_openssh_or_its_signature_a_device_cannot_be_asked(
    context: Context, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin" / "ssh-keygen").write_text("#!/bin/sh\nexit 1\n")
    ran = run("cert", "renew", "--context", context.path, "--device-key", tmp_path / "key")
    assert (ran.code, "could not sign with" in ran.err) == (2, True)
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = run("cert", "renew", "--context", context.path, "--device-key", tmp_path / "key")
    assert (ran.code, "install OpenSSH" in ran.err) == (2, True)
