"""The second disk of a guest: the installed wheel of this checkout and the programs of the bench that run in the guest.

It is made anew when a source has changed, which takes seconds; the image stays.
"""

import shutil
from pathlib import Path

from tools import PROJECT
from tools.radio_bench.image import CACHE, ON_GUEST, Image, compile_python, make_disk
from tools.radio_bench.layers import layer, remove
from tools.radio_bench.wheels import product


def disk(image: Image) -> Path:
    """Return the disk for guests of this image. Raises NoBench."""
    site = product(CACHE)
    programs = sorted(path for path in ON_GUEST.iterdir() if path.is_file())
    inputs: list[str | bytes] = [site.name, image.root.parent.name, *(path.name for path in programs)]

    def make(target: Path) -> None:
        folder = target.with_name("disk-half-folder")
        remove(folder)
        shutil.copytree(site, folder / "site")
        on_guest = folder / ON_GUEST.relative_to(PROJECT)
        on_guest.mkdir(parents=True)
        for path in programs:
            shutil.copy(path, on_guest)
        compile_python(image.root, folder / "site")
        make_disk(folder, target, room_mb=8)
        remove(folder)

    return layer(CACHE / image.suite.name, "disk", [*inputs, *(path.read_bytes() for path in programs)], make)
