"""The first operator over the local socket: after the response, every process accepts the certificate."""

from keyreeve.keys import make_csr, make_key
from keyreeve_ca.operators import first_operator
from keyreeve_ca.operators.first_operator import FirstOperator
from support.running_ca import RunningCa, unique


def test_an_answer_waits_until_every_process_knows_the_operator_even_after_a_lost_answer(ca: RunningCa) -> None:
    waited = []

    async def seen() -> None:
        waited.append(1)

    admitting = FirstOperator(ca.coordinator.issuance, "testing", b"{}", ca.operators, seen)
    name = unique("eva")
    ca.run(admitting.admit(name, make_csr(make_key())))
    assert len(waited) == 1
    ca.run(admitting.admit(name, make_csr(make_key())))
    assert len(waited) == 2, "the first answer may have been lost, and its record is as young"
    ca.clock.offset = first_operator.NEW_SECONDS + 1
    try:
        told = ca.run(admitting.admit(name, make_csr(make_key())))
    finally:
        ca.clock.offset = 0
    assert len(waited) == 2, "everybody has heard of it by now"
    assert told["identity"].endswith(name)
