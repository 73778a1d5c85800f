"""What a warm start of the CA, membership and credentials services takes (at most 8 s and 450 MiB)."""

import pytest

from keyreeve.cli.supervision.local_services import SERVICES
from keyreeve.cli.supervision.processes import read_pid
from keyreeve.cli.supervision.supervisor import pid_file
from keyreeve_bench.local_processes import Group
from support.control_plane import ControlPlane

MOST_PSS = 450 * 1024 * 1024
MOST_CPU_SECONDS = 8.0
"""Of all processes together: on an idle core the start takes no longer, however busy this machine is."""


@pytest.mark.faults
def test_a_warm_start_of_three_services_takes_little_time_and_memory(own_services: ControlPlane) -> None:
    own_services.up()
    own_services.down()
    own_services.up()
    used = {}
    for service in SERVICES:
        if service.name in {"ca", "membership", "credentials"}:
            pid = read_pid(pid_file(own_services.state_directory, service))
            assert pid is not None
            used[service.name] = Group(pid).usage()
    assert len(used) == 3
    assert sum(one.pss_bytes for one in used.values()) <= MOST_PSS, used
    # 3.8 s and 318 MiB on two busy cores.
    assert sum(one.cpu_seconds for one in used.values()) <= MOST_CPU_SECONDS, used
