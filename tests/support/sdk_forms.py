"""Both forms of the client behind one interface, so that a test runs against both."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import keyreeve
from keyreeve import Context
from keyreeve._async.client import Client as AsyncClient


class AsyncForm:
    """Calls as asyncio code does."""

    name = "asyncio"

    async def run(self, context: Context, work: Callable[[Any], Any], **options: Any) -> Any:
        """Run `work` with a client; iterators become lists."""
        async with AsyncClient(context, **options) as client:
            result = work(client)
            if inspect.isawaitable(result):
                return await result
            return [one async for one in result] if isinstance(result, AsyncIterator) else result


class BlockingForm:
    """Calls as threads do."""

    name = "blocking"

    async def run(self, context: Context, work: Callable[[Any], Any], **options: Any) -> Any:
        """Run `work` with a client; iterators become lists."""

        def run() -> Any:
            with keyreeve.Client(context, **options) as client:
                result = work(client)
                return list(result) if isinstance(result, Iterator) else result

        return await asyncio.to_thread(run)


FORMS = (AsyncForm(), BlockingForm())
ClientForm = AsyncForm | BlockingForm
