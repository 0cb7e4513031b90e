"""`keycast board files`: the files that every board runs, in a folder."""

import shutil
import time
from pathlib import Path
from typing import Annotated

import typer

from keycast.terminal import extras
from keycast.terminal.options import answer, folder, refuse, sentences


def command(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", parser=folder, help="New folder for the files.")],
    val_client: Annotated[bool, typer.Option("--val-client", help="For boards that are VAL clients.")] = False,
) -> None:
    """Write the files that every board runs: an image for its ROMFS partition, and main.py, which starts it.

    None of them is secret. The folder `mpy` has the same code as single files. `sources` has it for a firmware with the
    code frozen in, with the board definitions for its build in `sources/micropython/firmware`; `board.slot` replaces
    the code of such a firmware (docs/firmware.md).

    Example: keycast board files board-files
    """
    extras.require("boards")
    from keycast.micropython_vm import board_files, compile, romfs

    with sentences():
        tree, image = compile.board_tree(val_client), out / "board.romfs"
        try:
            out.mkdir()
        except OSError as error:
            refuse(f"cannot make {out}: {error.strerror}. Name a new folder.", "file")
        shutil.copy(tree.with_suffix(".romfs"), image)
        (out / "board.slot").write_bytes(romfs.slot(image.read_bytes(), int(time.time())))
        shutil.copy(tree / board_files.START, out)
        shutil.copytree(tree, out / "mpy")
        shutil.copytree(compile.SOURCES / tree.name, out / "sources")
    answer(
        {"folder": str(out)},
        f"{out} is written. With a board on USB:",
        f"  mpremote romfs deploy {image}",
        f"  mpremote cp {out / board_files.START} :",
    )
