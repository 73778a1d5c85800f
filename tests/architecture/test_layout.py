"""The layout of the services: how large files and folders are, and what imports what."""

import graphlib
import re

import pytest

from support.import_graph import ROOT, SOURCES, by_feature, files_of, graph_of, imported_names, longest_path

MOST_LINES = 450
MOST_MODULES = 12
"""In one folder, and at the top of a service."""
MOST_LEVELS = 8
"""Of folders and modules at the top of the CA service; those that import each other in a circle count as one level."""
LARGEST_CIRCLE = 17
"""Folders of features that import each other in a circle; no modules do."""
MOST_LINES_OF_A_SERVICE = 150
"""Of one with a mutation, a list, a watch stream, an operation and a migration."""

CONTRACT = "keyreeve.ca.v1"
X509 = "cryptography.x509"
COMPOSITION = {"app", "settings"}
VALUES_OF_CAS = ("keyreeve.caller_values", "keyreeve.session_values", "keyreeve.values")
"""Modules of the SDK that say what certificates, CAs and their callers are."""
ABOUT_CAS = tuple(f"{name}." for name in (CONTRACT, X509, *VALUES_OF_CAS))
INNERMOST = {
    "blocked_keys.ports": "what is known of keys that are never certified",
    "certificates.serials": "the form of serial numbers (RFC 5280, 4.1.2.2)",
    "enrollment.ports": "what becomes of an enrollment token",
    "issuance.batching": "which requests to sign are taken into one group",
    "ledger.ports": "what is committed to the ledger of certificates",
    "local_admin": "what the CA is asked over its local admin socket; loaded before anything else is",
    "requests.der_reader": "reads the DER of certificate requests, and refuses it as one",
    "store.metadata": "what all tables of the CA are registered with",
}
"""Modules about CAs that import no other one, since the others build on them, and what each is about."""


def test_what_every_service_needs_is_in_the_chassis() -> None:
    files = files_of("keyreeve_ca")
    generic = []
    for module, imported in graph_of("keyreeve_ca").items():
        names = imported_names(files[module])
        about_cas = any(f"{name}.".startswith(ABOUT_CAS) for name in names)
        if not imported and not about_cas and not module.startswith("keyreeve_ca.migrations."):
            generic.append(module.removeprefix("keyreeve_ca."))
    assert sorted(set(generic) - COMPOSITION) == sorted(INNERMOST)


ADAPTERS_OF = {"pkilint", "psycopg", "sqlalchemy", "sqlite3"}
COMPOSED_OF_ADAPTERS = ("app", "migrations.", "store.")
"""The composition root, and the transaction and the schema of all features."""
COMPOSITION_ROOTS = {
    "keyreeve_ca": {"app", "coordinator", "worker"},
    "keyreeve_credentials": {"app"},
    "keyreeve_gateway": {"app"},
    "keyreeve_membership": {"app"},
}
"""The modules that name concrete classes: of the CA, what its two kinds of processes share, and one for each kind."""
STARTS = {"__main__", "spec", "testing"}
"""The modules that start what the composition root has put together."""


@pytest.mark.parametrize("package", COMPOSITION_ROOTS)
def test_nothing_but_what_starts_a_service_imports_its_composition_root(package: str) -> None:
    root = {f"{package}.{module}" for module in COMPOSITION_ROOTS[package]}
    importing = {module for module, imported in graph_of(package).items() if imported & root}
    assert importing
    assert {module.removeprefix(f"{package}.") for module in importing - root} <= STARTS


@pytest.mark.parametrize("package", ["keyreeve_ca", "keyreeve_credentials", "keyreeve_membership"])
def test_the_composition_root_alone_names_adapters(package: str) -> None:
    files = files_of(package)
    adapters = {
        module
        for module, path in files.items()
        if ADAPTERS_OF & {name.partition(".")[0] for name in imported_names(path)}
    }
    naming = {
        module: sorted(imported & adapters)
        for module, imported in graph_of(package).items()
        if imported & adapters
        and module not in adapters
        and not module.removeprefix(f"{package}.").startswith(COMPOSED_OF_ADAPTERS)
    }
    assert adapters
    assert naming == {}


def test_the_service_of_the_tests_is_small_since_the_chassis_has_the_rest() -> None:
    folder = ROOT / "tests/support/inventory_service"
    assert 0 < sum(len(path.read_text().splitlines()) for path in folder.rglob("*.py")) <= MOST_LINES_OF_A_SERVICE


def sizes(*folders: str) -> dict[str, int]:
    """The number of modules in each folder below these."""
    counted: dict[str, int] = {}
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            if path.stem != "__init__" and path.parent.name != "versions":
                name = str(path.parent.relative_to(ROOT))
                counted[name] = counted.get(name, 0) + 1
    return counted


def test_a_folder_of_a_service_holds_one_feature() -> None:
    found = sizes("services")
    assert found["services/ca/keyreeve_ca"] > 1
    assert {name: modules for name, modules in found.items() if modules > MOST_MODULES} == {}


def test_a_file_of_a_service_holds_one_idea() -> None:
    generated = re.compile(r"_pb2(_grpc)?\.py$")
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in (ROOT / "services").rglob("*.py")
        if not generated.search(path.name)
    }
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_features_of_the_ca_lie_on_few_levels() -> None:
    path = longest_path(by_feature(graph_of("keyreeve_ca")))
    shown = " -> ".join("+".join(sorted(circle)) for circle in path)
    assert len(path) <= MOST_LEVELS, shown
    assert max(len(circle) for circle in path) <= LARGEST_CIRCLE, shown


@pytest.mark.parametrize("package", SOURCES)
def test_no_module_imports_itself_by_way_of_others(package: str) -> None:
    try:
        graphlib.TopologicalSorter(graph_of(package)).prepare()
    except graphlib.CycleError as cycle:
        pytest.fail(" -> ".join(cycle.args[1]))
