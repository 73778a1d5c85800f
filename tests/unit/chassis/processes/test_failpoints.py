import os
import signal
import subprocess
import sys

import pytest

from keyreeve_chassis.processes import failpoints
from keyreeve_chassis.processes.failpoints import FailpointRaised, FailpointsRefused, arm, register

ALLOWED = {"KEYREEVE_ALLOW_FAILPOINTS": "1"}
POINT = register("test.step.before", "Nothing has happened.")
OTHER = register("test.step.after", "It has happened.")


@pytest.fixture(autouse=True)
def disarmed():
    yield
    arm({})


def test_nothing_happens_unless_armed():
    assert failpoints.hit == failpoints._UNARMED.get
    failpoints.hit(POINT)
    failpoints.hit("never.registered")


def test_an_armed_failpoint_raises_at_every_hit_and_others_do_not():
    arm({"KEYREEVE_FAILPOINTS": f"{POINT}=raise", **ALLOWED})
    failpoints.hit(OTHER)
    for _ in range(2):
        with pytest.raises(FailpointRaised, match=POINT):
            failpoints.hit(POINT)


def test_a_failpoint_can_act_at_one_hit_only():
    arm({"KEYREEVE_FAILPOINTS": f"{OTHER}=delay:0, {POINT}=raise@3", **ALLOWED})
    for _ in range(2):
        failpoints.hit(POINT)
    with pytest.raises(FailpointRaised):
        failpoints.hit(POINT)
    failpoints.hit(POINT)
    failpoints.hit(OTHER)


def test_hitting_an_unregistered_failpoint_is_an_error_when_armed():
    arm({"KEYREEVE_FAILPOINTS": f"{POINT}=raise", **ALLOWED})
    with pytest.raises(LookupError):
        failpoints.hit("never.registered")


def test_failpoints_are_refused_where_they_are_not_allowed():
    for allowed in ({}, {"KEYREEVE_ALLOW_FAILPOINTS": "0"}):
        with pytest.raises(FailpointsRefused, match="KEYREEVE_ALLOW_FAILPOINTS"):
            arm({"KEYREEVE_FAILPOINTS": f"{POINT}=raise", **allowed})


def test_the_failpoints_of_another_service_are_left_to_it():
    arm({"KEYREEVE_FAILPOINTS": "another.point=raise", "KEYREEVE_ALLOW_FAILPOINTS": "1"})
    failpoints.hit(POINT)


@pytest.mark.parametrize(
    "text",
    [
        "test.unknown=raise",
        "unknown=raise",
        f"{POINT}",
        f"{POINT}=explode",
        f"{POINT}=raise@0",
        f"{POINT}=raise@x",
        f"{POINT}=raise@²",
        f"{POINT}=crash:9",
        f"{POINT}=delay",
        f"{POINT}=delay:soon",
        f"{POINT}=raise,,",
    ],
)
def test_words_that_mean_nothing_are_refused(text):
    with pytest.raises(FailpointsRefused):
        arm({"KEYREEVE_FAILPOINTS": text, **ALLOWED})


def test_registered_failpoints_can_be_listed_and_keep_their_meaning():
    assert failpoints.registered()[POINT] == "Nothing has happened."
    assert register(POINT, "Nothing has happened.") == POINT
    with pytest.raises(ValueError, match="twice"):
        register(POINT, "Something else.")
    with pytest.raises(ValueError, match="named like"):
        register("Bad name", "x")


@pytest.mark.parametrize(("action", "number"), [("crash", signal.SIGKILL), ("pause", signal.SIGSTOP)])
def test_a_process_kills_or_stops_itself(action, number):
    program = (
        "import os\n"
        "from keyreeve_chassis.processes import failpoints\n"
        "from keyreeve_chassis.processes.failpoints import arm, register\n"
        "name = register('test.step.before', 'x')\n"
        "arm(os.environ)\n"
        "failpoints.hit(name)\n"
        "print('went on', flush=True)\n"
    )
    environment = {**os.environ, **ALLOWED, "KEYREEVE_FAILPOINTS": f"test.step.before={action}"}
    process = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    if number is signal.SIGKILL:
        assert os.WTERMSIG(status) == number
        process.returncode = -number
        process.stdout.close()
        return
    assert os.WSTOPSIG(status) == number
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=60)[0] == b"went on\n"
