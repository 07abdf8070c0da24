"""stochdeconv merge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stochdeconv.cli.collect import refuse_existing
from stochdeconv.cli.flags import command
from stochdeconv.cli.running import OutputFlags
from stochdeconv.cli.terminal import ProgressBar
from stochdeconv.errors import SettingsError

# A working folder beside the file: that of a merge must not take the place of an interrupted collection's.
MERGING = ".merging"


@command
def merge(
    shards: Annotated[list[Path], Parameter(metavar="SHARD…", help="Files of collect --shard.")],
    /,
    *,
    output: Annotated[Path, Parameter(metavar="FILE.h5", help="The whole.")],
    flags: OutputFlags,
) -> None:
    """Put shards of a collection together: the same as one pass."""
    from stochdeconv.statistics.collection import merge as merge_shards
    from stochdeconv.statistics.file import save_statistics

    if output.resolve() in {shard.resolve() for shard in shards}:
        raise SettingsError(
            f"output= '{output}' is one of the shards, which the whole would replace; choose another file"
        )
    if not flags.overwrite:
        refuse_existing(output)
    # Beside the output: as much space as the shards take is where the user wants the result, not in a folder for small things.
    with ProgressBar(output.stem, quiet=flags.quiet) as bar:
        statistics = merge_shards(shards, spool=output.with_name(output.name + MERGING), progress=bar.on_progress)
    save_statistics(statistics, output, overwrite=flags.overwrite)
    print(output)
