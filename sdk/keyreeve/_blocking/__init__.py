"""The blocking form of the clients, generated from the asyncio form; only `runtime` is written by hand."""
