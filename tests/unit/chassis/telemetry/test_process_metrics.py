"""The `process_*` metrics, and gauges whose series are replaced together."""

import os
import time
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from keyreeve_chassis.telemetry import metrics
from keyreeve_chassis.telemetry.current_values import CurrentValues
from keyreeve_chassis.telemetry.process_metrics import ServiceProcesses

PAGE = os.sysconf("SC_PAGESIZE")
TICKS = os.sysconf("SC_CLK_TCK")


def write_process(proc: Path, number: int, name: str, parent: int, files: int, *, cpu: int = 0) -> None:
    place = proc / str(number)
    (place / "fd").mkdir(parents=True)
    for descriptor in range(files):
        (place / "fd" / str(descriptor)).touch()
    fields = ["0"] * 40
    fields[1], fields[11], fields[12], fields[19], fields[20], fields[21] = (
        str(parent), str(cpu), str(cpu), str(5 * TICKS), "4096", "3",
    )  # fmt: skip
    (place / "stat").write_text(f"{number} ({name}) S {' '.join(fields[1:])}\n")
    (place / "limits").write_text(
        "Limit                     Soft Limit\nMax open files            100        200   files\n"
    )


def samples(collector: ServiceProcesses) -> dict[tuple[str, str], float]:
    return {(one.name, one.labels["process"]): one.value for family in collector.collect() for one in family.samples}


def test_every_process_of_a_managed_service_is_shown_by_its_role(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu 1 2\nbtime 1000\n")
    write_process(tmp_path, 10, "kr-ca-manager", 1, 3)
    write_process(tmp_path, 11, "kr-ca-coordinat", 10, 7, cpu=2 * TICKS)
    write_process(tmp_path, 12, "kr-ca-worker-0", 10, 9)
    write_process(tmp_path, 13, "kr (odd) name", 1, 1)
    found = samples(ServiceProcesses(tmp_path, 11, managed=True))
    assert {process for _, process in found} == {"manager", "coordinator", "worker-0"}
    assert found["process_cpu_seconds_total", "coordinator"] == 4
    assert found["process_resident_memory_bytes", "worker-0"] == 3 * PAGE
    assert found["process_start_time_seconds", "manager"] == 1005
    assert [found["process_open_fds", name] for name in ("manager", "coordinator", "worker-0")] == [3, 7, 9]
    assert found["process_max_fds", "manager"] == 100


def test_a_process_whose_files_may_not_be_looked_at_is_shown_without_them(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("btime 1000\n")
    write_process(tmp_path, 11, "kr-vault-solo", 1, 0)
    (tmp_path / "11" / "fd").rmdir()
    (tmp_path / "11" / "limits").unlink()
    found = samples(ServiceProcesses(tmp_path, 11))
    assert ("process_open_fds", "solo") not in found
    assert found["process_virtual_memory_bytes", "solo"] == 4096


def test_a_service_of_one_process_shows_itself_once() -> None:
    page = metrics.render()[1].decode()
    [started] = [line for line in page.splitlines() if line.startswith("process_start_time_seconds{")]
    assert abs(float(started.rpartition(" ")[2]) - time.time()) < 24 * 3600
    assert page.count("# TYPE process_open_fds ") == 1


def test_series_that_are_gone_are_not_shown_any_more() -> None:
    registry = CollectorRegistry()
    values = CurrentValues("expiry", "When it expires.", ("authority",), registry)
    values.replace({("one",): 1, ("two",): 2})
    values.replace({("two",): 3})
    assert [line for line in generate_latest(registry).decode().splitlines() if line[0] != "#"] == [
        'expiry{authority="two"} 3.0'
    ]
