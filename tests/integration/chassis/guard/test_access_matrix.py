from dataclasses import replace

from keyreeve.identity import ALL_ROLES
from keyreeve_chassis.rpc.health import Health, health_service
from keyreeve_chassis.rpc.reflection import reflection_services
from support.access_matrix import caller_kinds, operators, walk
from support.echo_service import EchoServicer, echo_service
from support.peer_certificates import Hierarchies
from support.running import serving


async def test_every_method_answers_every_kind_of_caller_as_its_access_row_says():
    servicer = EchoServicer()
    async with serving([echo_service(servicer)]) as server:
        server.view = replace(server.view, operators=operators(), generation=server.view.generation + 1)
        everything = server.router.plus([health_service(Health(), roles=ALL_ROLES), *reflection_services([])])
        tried = await walk(server.address, everything, server.hierarchies, server.verifier)
    assert tried == len(caller_kinds(Hierarchies.make())) * 10
    assert [call for call in servicer.calls if call.method.endswith("Echo")] == []
