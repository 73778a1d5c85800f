"""The exemption from a halt is a type that only the CA's own work makes."""

import ast
from pathlib import Path

import pytest

import keyreeve_ca
from keyreeve_ca.ledger.ports import CommitGroup, InProcess, Origin, RequestClaim, Rpc
from keyreeve_ca.ledger.wire import flat_group

MAKERS = {
    "authorities/recovery.py",
    "issuance/serving_certificate.py",
    "ledger/wire.py",
    "ocsp/responder.py",
    "operators/first_operator.py",
}


def test_only_the_cas_own_work_makes_the_exemption() -> None:
    package = Path(keyreeve_ca.__file__).parent
    makers = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "InProcess"
    }
    assert makers == MAKERS


@pytest.mark.parametrize("method", ["in-process", "", "Sign"])
def test_no_rpc_has_the_stored_method_of_the_exemption(method: str) -> None:
    with pytest.raises(ValueError, match="full name"):
        Rpc(method)


@pytest.mark.parametrize(
    ("origin", "method", "exempt"), [(Rpc("/x.Y/Z"), "/x.Y/Z", False), (InProcess(), "in-process", True)]
)
def test_the_gate_gets_the_exemption_and_the_ledger_stores_the_method(
    origin: Origin, method: str, exempt: bool
) -> None:
    claim = RequestClaim("caller", origin, "id", b"", ())
    [request] = flat_group(CommitGroup(b"g" * 16, "worker", 1, 1, "ca", frozenset(), 0, (claim,))).requests
    assert (request.method, request.exempt) == (method, exempt)
