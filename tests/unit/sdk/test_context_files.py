"""The context file: its location, required contents and relative paths."""

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keyreeve import Client, Context, aio
from keyreeve.cli.supervision.state_directory import StateDirectory
from keyreeve.errors import ContextInvalid, FileUnusable

GOOD: dict[str, Any] = {
    "trust_domain": "example.test",
    "endpoints": {"ca": "127.0.0.1:7443"},
    "http": "http://127.0.0.1:7480",
    "bundle": "control.pem",
    "estate_bundle": "../estate.pem",
    "certificate": "me/cert.pem",
    "key": "/etc/keyreeve/me.key",
}


def write(path: Path, **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o755)
    path.touch()
    path.chmod(0o644)
    path.write_text(json.dumps({key: value for key, value in (GOOD | changes).items() if value is not None}))
    return path


@pytest.fixture(autouse=True)
def _no_context_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEYREEVE_CONTEXT", raising=False)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    context = Context.load(write(tmp_path / "a/context.json"))
    assert context.bundle == tmp_path / "a/control.pem"
    assert context.estate_bundle.resolve() == tmp_path / "estate.pem"
    assert context.key == Path("/etc/keyreeve/me.key")
    assert context.endpoint("ca") == "127.0.0.1:7443"
    assert context.path == tmp_path / "a/context.json"


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    context = Context.load(write(tmp_path / "a/context.json"))
    context.save(tmp_path / "a/other.json")
    assert Context.load(tmp_path / "a/other.json") == context
    saved = json.loads((tmp_path / "a/other.json").read_text())
    assert saved["bundle"] == "control.pem"
    assert saved["endpoints"] == {"ca": ["127.0.0.1:7443"]}


def test_a_service_may_have_several_addresses(tmp_path: Path) -> None:
    addresses = ["ca-0.example.test:7443", "10.0.0.2:7443", "[2001:db8::3]:7443"]
    context = Context.load(write(tmp_path / "a/context.json", endpoints={"ca": addresses, "gateway": "[::1]:1"}))
    assert context.addresses("ca") == tuple(addresses)
    assert context.endpoint("ca") == addresses[0]
    assert context.addresses("gateway") == ("[::1]:1",)
    context.save(tmp_path / "a/other.json")
    assert Context.load(tmp_path / "a/other.json") == context


@pytest.mark.parametrize("addresses", [{}, 5, None, [5], [["127.0.0.1:1"]]])
def test_addresses_that_are_no_list_of_strings_are_refused(tmp_path: Path, addresses: object) -> None:
    with pytest.raises(ContextInvalid, match="does not map services to lists of strings"):
        Context.load(write(tmp_path / "context.json", endpoints={"ca": addresses}))


@pytest.mark.parametrize("service", ["", "CA", "a.b", "../ca", "1ca"])
def test_a_service_whose_name_is_no_label_is_refused(tmp_path: Path, service: str) -> None:
    with pytest.raises(ContextInvalid, match="not the name of a service"):
        Context.load(write(tmp_path / "context.json", endpoints={service: ["127.0.0.1:1"]}))


def test_an_empty_list_of_addresses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContextInvalid, match="'ca' has an empty list"):
        Context.load(write(tmp_path / "context.json", endpoints={"ca": []}))


def test_a_saved_directory_can_be_moved(tmp_path: Path) -> None:
    context = Context.load(write(tmp_path / "a/context.json", estate_bundle="estate.pem"))
    context.save(tmp_path / "a/context.json")
    (tmp_path / "a").rename(tmp_path / "b")
    assert Context.load(tmp_path / "b/context.json").certificate == tmp_path / "b/me/cert.pem"


def test_the_environment_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYREEVE_CONTEXT", str(write(tmp_path / "named.json")))
    monkeypatch.chdir(write(tmp_path / "here/.keyreeve/context.json", trust_domain="other.test").parent)
    assert Context.load().trust_domain == "example.test"


def test_an_argument_goes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYREEVE_CONTEXT", str(tmp_path / "missing.json"))
    assert Context.load(write(tmp_path / "named.json")).trust_domain == "example.test"


def test_it_is_looked_for_in_the_directories_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / ".keyreeve/context.json")
    deep = tmp_path / "a/b/c"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert Context.load().bundle == tmp_path / ".keyreeve/control.pem"


def test_the_nearest_one_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / ".keyreeve/context.json", trust_domain="far.test")
    write(tmp_path / "a/.keyreeve/context.json", trust_domain="near.test")
    monkeypatch.chdir(tmp_path / "a")
    assert Context.load().trust_domain == "near.test"


OTHER_USER = 4_000_000


@pytest.fixture
def belongs_to_other_user(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """Paths put into this set are owned by a user who is neither this one nor root."""
    theirs: set[Path] = set()
    real = {name: getattr(Path, name) for name in ("stat", "lstat")}

    def faked(name: str) -> Any:
        def look(path: Path, **how: Any) -> os.stat_result:
            found: os.stat_result = real[name](path, **how)
            if path not in theirs:
                return found
            values = list(found)
            values[4] = OTHER_USER
            return os.stat_result(values)

        return look

    for name in real:
        monkeypatch.setattr(Path, name, faked(name))
    return theirs


@pytest.mark.parametrize("place", [".keyreeve", ".keyreeve/context.json"])
def test_a_found_context_of_another_user_is_refused_unless_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, belongs_to_other_user: set[Path], place: str
) -> None:
    file = write(tmp_path / ".keyreeve/context.json")
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    assert Context.load().path == file
    belongs_to_other_user.add(tmp_path / place)
    with pytest.raises(ContextInvalid, match=rf"belongs to user {OTHER_USER}.*--context.*KEYREEVE_CONTEXT") as refusal:
        Context.load()
    assert refusal.value.metadata["path"] == str(file)
    assert Context.load(file).path == file
    monkeypatch.setenv("KEYREEVE_CONTEXT", str(file))
    assert Context.load().path == file


@pytest.mark.parametrize(
    ("place", "mode"), [(".keyreeve", 0o1777), (".keyreeve", 0o775), (".keyreeve/context.json", 0o666)]
)
def test_one_that_is_found_where_others_can_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, mode: int
) -> None:
    write(tmp_path / ".keyreeve/context.json")
    (tmp_path / place).chmod(mode)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ContextInvalid, match=f"can be written by other users.*{mode:04o}"):
        Context.load()


def test_another_users_link_to_our_context_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, belongs_to_other_user: set[Path]
) -> None:
    write(tmp_path / "ours/context.json")
    (tmp_path / "shared").mkdir()
    link = tmp_path / "shared/.keyreeve"
    link.symlink_to(tmp_path / "ours")
    monkeypatch.chdir(tmp_path / "shared")
    assert Context.load().trust_domain == "example.test"
    belongs_to_other_user.add(link)
    with pytest.raises(ContextInvalid, match="belongs to"):
        Context.load()


@pytest.mark.parametrize("place", [".keyreeve", ".keyreeve/ca.yaml"])
def test_no_services_are_run_from_another_users_directory(
    tmp_path: Path, belongs_to_other_user: set[Path], place: str
) -> None:
    state_directory = StateDirectory.at(tmp_path / ".keyreeve")
    state_directory.make()
    state_directory.config("ca").write_text("planted\n")
    state_directory.config("ca").chmod(0o600)
    state_directory.make()
    belongs_to_other_user.add(tmp_path / place)
    with pytest.raises(FileUnusable, match="belongs to"):
        state_directory.make()


def test_when_there_is_none_both_ways_to_name_one_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ContextInvalid, match=r"\.keyreeve/context\.json.*KEYREEVE_CONTEXT"):
        Context.load()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContextInvalid, match=r"no context file at .*gone\.json"):
        Context.load(tmp_path / "gone.json")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"", b"[]", b"null"])
def test_a_file_that_holds_no_json_object_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "context.json"
    file.write_bytes(content)
    with pytest.raises(ContextInvalid):
        Context.load(file)


def test_an_unknown_key_is_refused_with_the_nearest_known(tmp_path: Path) -> None:
    with pytest.raises(ContextInvalid, match="'certifcate'; did you mean 'certificate'"):
        Context.load(write(tmp_path / "context.json", certifcate="x"))


@pytest.mark.parametrize("key", [key for key in GOOD if key != "http"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(ContextInvalid, match=f"lacks '{key}'"):
        Context.load(write(tmp_path / "context.json", **{key: None}))


def test_the_plain_http_address_may_be_missing(tmp_path: Path) -> None:
    assert Context.load(write(tmp_path / "context.json", http=None)).http == ""


@pytest.mark.parametrize("key", ["trust_domain", "bundle", "http", "endpoints"])
def test_a_value_of_another_type_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ContextInvalid, match=key):
        Context.load(write(tmp_path / "context.json", **{key: 5}))


@pytest.mark.parametrize(
    "address", ["", "ca", "ca:", ":7443", "ca:port", "ca:0", "ca:65536", "ca:-1", "ca:\u0667", "::1:7443", "https://ca"]
)
def test_an_endpoint_that_is_no_address_is_refused(tmp_path: Path, address: str) -> None:
    for endpoint in (address, ["127.0.0.1:1", address]):
        with pytest.raises(ContextInvalid, match="not host:port"):
            Context.load(write(tmp_path / "context.json", endpoints={"ca": endpoint}))


@pytest.mark.parametrize("address", ["ca:1", "[::1]:7443", "ca.example.test:65535"])
def test_names_and_bracketed_addresses_are_endpoints(tmp_path: Path, address: str) -> None:
    assert Context.load(write(tmp_path / "context.json", endpoints={"ca": address})).endpoint("ca") == address


@pytest.mark.parametrize("domain", ["", "Example.test", "a_b", "a..b", "spiffe://a"])
def test_a_trust_domain_in_another_spelling_is_refused(tmp_path: Path, domain: str) -> None:
    with pytest.raises(ContextInvalid, match="trust domain"):
        Context.load(write(tmp_path / "context.json", trust_domain=domain))


def test_a_service_without_an_endpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContextInvalid, match="'membership'"):
        Context.load(write(tmp_path / "context.json")).endpoint("membership")


def test_a_context_keeps_its_own_endpoints_and_can_be_sent_to_another_process(tmp_path: Path) -> None:
    endpoints = {"ca": "127.0.0.1:7443"}
    loaded = Context.load(write(tmp_path / "context.json"))
    context = replace(loaded, endpoints=endpoints)
    endpoints["ca"] = "another:1"
    assert context == loaded
    assert pickle.loads(pickle.dumps(context)) == context


def test_a_directory_stands_for_the_context_file_in_it(tmp_path: Path) -> None:
    write(tmp_path / "plane/.keyreeve/context.json")
    write(tmp_path / "enrolled/context.json", trust_domain="enrolled.test")
    assert Context.load(tmp_path / "plane").trust_domain == "example.test"
    assert Context.load(tmp_path / "plane/.keyreeve").trust_domain == "example.test"
    assert Context.load(str(tmp_path / "enrolled")).trust_domain == "enrolled.test"
    with pytest.raises(ContextInvalid, match=r"context\.json"):
        Context.load(tmp_path)


@pytest.mark.parametrize("kind", [Client, aio.Client])
def test_a_client_takes_a_path(kind: type[Client] | type[aio.Client], tmp_path: Path) -> None:
    file = write(tmp_path / ".keyreeve/context.json")
    contexts = [kind(place).context for place in (file, str(file), tmp_path, Context.load(file))]
    assert contexts == [Context.load(file)] * 4
