"""The legacy programs."""

from keyreeve_gateway.tarantella.program import TARANTELLA

PROGRAMS = (TARANTELLA,)
