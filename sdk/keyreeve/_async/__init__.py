"""The asyncio form of the clients, which the blocking form is generated from (tools/generate-blocking)."""
