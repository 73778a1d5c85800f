"""Sessions of operators at gateways, and the tickets with which a gateway calls on behalf of an operator."""
