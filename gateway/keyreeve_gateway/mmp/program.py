"""The `mmp` program: its families."""

from keyreeve_gateway.grammar.model import Program
from keyreeve_gateway.mmp import pki

MMP = Program(
    "mmp",
    "Answers the command line of the meeting server.",
    (pki.FAMILY,),
    failure_prefix="FAILURE: ",
)
