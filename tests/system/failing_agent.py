"""An agent that does not start, to be signed as an update."""

import shutil
from pathlib import Path

from keycast.micropython_vm import board_files, compile


def agent_that_fails(folder: Path) -> Path:
    """The files of a whole agent that raises an error as soon as it is imported."""
    sources = folder / "sources"
    sources.mkdir(parents=True)
    shutil.copytree(compile.board_tree(val_client=False), folder / "mpy")
    for name in ("start.py", "board.py"):
        (sources / name).write_text("raise ValueError('no good')\n")
        compile.compile_file(name, sources / name, (folder / "mpy" / name).with_suffix(".mpy"), board_files.LEVEL)
    return folder
