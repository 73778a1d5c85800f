"""`python -m keyreeve_bench`, the program that `keyreeve bench` runs: one argument, the settings as JSON."""

import asyncio
import json
import sys

from keyreeve.cli.exit_codes import Exit, error_document, error_text, exit_code, print_error
from keyreeve.cli.printing import Format, Palette, dump
from keyreeve.errors import KeyreeveError
from keyreeve_bench.settings import BenchSettings
from keyreeve_bench.sign import bench_sign
from keyreeve_bench.table import table


def main(argument: str) -> int:
    """Run a benchmark, print its report and return the exit code: 1 when a check or a threshold fails."""
    document = json.loads(argument)
    as_json = bool(document.get("json"))
    try:
        found = asyncio.run(bench_sign(BenchSettings.from_document(document)))
    except KeyreeveError as error:
        if as_json:
            sys.stderr.write(dump(error_document(error), Format.JSON))
        else:
            palette = Palette.of(sys.stderr)
            print_error(error_text(error, red=palette.red, plain=palette.plain))
        return exit_code(error)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    sys.stdout.write(dump(found, Format.JSON) if as_json else table(found))
    return Exit.DONE if found["ok"] else Exit.REFUSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
