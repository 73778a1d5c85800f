"""The legacy programs."""

from keyreeve_gateway.mmp.program import MMP
from keyreeve_gateway.tarantella.program import TARANTELLA

PROGRAMS = (TARANTELLA, MMP)
