"""`LegacyGateway/Execute`: command lines over a stream, on behalf of an operator."""
