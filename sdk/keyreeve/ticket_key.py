"""The metadata key of the ticket with which a gateway calls on behalf of an operator."""

from typing import Final

TICKET_KEY: Final = "keyreeve-ticket-bin"
