"""Asyncio clients, from which the blocking ones are generated.

tools/generate-blocking generates them.
"""
