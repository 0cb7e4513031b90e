"""The image of a guest: a kernel, an initial RAM disk and a disk with a release of Debian, all kept in the cache.

What comes from the network (Debian packages, wheels) are layers of their own, so that it is fetched once.
"""

import lzma
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools import PROJECT
from tools.radio_bench.errors import NoBench
from tools.radio_bench.layers import layer, remove, run
from tools.radio_bench.suites import CRYPTO, DISK_MODULES, KERNEL, MODULES, PACKAGES, Suite
from tools.radio_bench.wheels import dependencies

CACHE = PROJECT / ".cache" / "radio_bench"
ON_GUEST = Path(__file__).with_name("on_guest")
PROGRAMS = {  # command -> Debian package
    "qemu-system-x86_64": "qemu-system-x86",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "busybox": "busybox-static",
    "modprobe": "kmod",
    "cpio": "cpio",
    "zstd": "zstd",
    "unshare": "util-linux",
}
_NOT_NEEDED = ("man", "doc", "locale", "info")  # folders of /usr/share
_ELF = b"\x7fELF"
_XZ, _ZSTD = b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class Image:
    """The files that QEMU boots a guest from. `root` is the folder that the disk was made of."""

    suite: Suite
    kernel: Path
    initrd: Path
    disk: Path
    root: Path


def missing() -> str:
    """Return why no image can be made here, with the next step, "" if one can."""
    packages = sorted({package for command, package in PROGRAMS.items() if _which(command) is None})
    if packages:
        return f"needs programs that are not here (Debian: sudo apt install {' '.join(packages)})"
    return "" if os.geteuid() == 0 else "needs root, to make the disk of the guest"


def image(suite: Suite) -> Image:
    """Return the image of a release, from the cache if it was made of the same. Raises NoBench."""
    if why := missing():
        raise NoBench(f"The radio bench {why}.")
    folder = CACHE / suite.name
    system = layer(folder, "system", [suite.name, *PACKAGES], lambda path: _fetch_system(suite, path))
    kernel = layer(folder, "kernel", [suite.name, KERNEL], lambda path: _fetch_kernel(suite, path))
    wheels = dependencies(suite, folder)
    inputs: list[str | bytes] = [system.name, kernel.name, wheels.name, *MODULES, *CRYPTO, Path(__file__).read_bytes()]
    inputs += [(ON_GUEST / name).read_bytes() for name in ("init.sh", "initrd.sh")]
    made = layer(folder, "guest", inputs, lambda path: _assemble(path, system, kernel, wheels))
    return Image(suite, made / "vmlinux", made / "initrd.cpio", made / "disk.ext4", made / "root")


def make_disk(folder: Path, disk: Path, room_mb: int) -> None:
    """Write an ext4 file system with the contents of `folder` and some free room to the file `disk`."""
    used = int(run(["du", "-sm", folder]).split()[0])
    size = f"{used * 5 // 4 + room_mb}M"
    run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-E", "lazy_itable_init=1", "-d", folder, disk, size])


def compile_python(root: Path, folder: Path) -> None:
    """Compile all Python sources below `folder` for the Python of the guest whose root folder is `root`."""
    script = 'mount --bind "$2" "$1/mnt" && exec chroot "$1" python3 -m compileall -q /mnt'
    run(["unshare", "--mount", "sh", "-ec", script, "sh", root, folder])


def _which(command: str) -> str | None:
    return shutil.which(command, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _fetch_system(suite: Suite, tar: Path) -> None:
    options = [f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in _NOT_NEEDED]
    _debian(suite, tar, "--variant=minbase", f"--include={','.join(PACKAGES)}", *options)


def _fetch_kernel(suite: Suite, tar: Path) -> None:
    """Fetch the kernel's package without running its scripts, which would make an initial RAM disk."""
    _debian(suite, tar, "--variant=extract", f"--include={KERNEL}")


def _debian(suite: Suite, tar: Path, *options: str) -> None:
    half = tar.with_suffix(".tar")
    run(["mmdebstrap", "--quiet", "--mode=root", *options, suite.name, half])
    half.rename(tar)


def _assemble(made: Path, system: Path, kernel: Path, wheels: Path) -> None:
    root, tree = made / "root", made / "tree"
    root.mkdir(parents=True)
    run(["tar", "-xpf", system, "-C", root, "--exclude=./dev/*"])
    version = _unpack_kernel(kernel, tree, made / "vmlinux")
    for each in ("var/cache/apt", "var/lib/apt/lists", *(f"usr/share/{name}" for name in _NOT_NEEDED)):
        remove(root / each)
    shutil.copytree(wheels, root / "usr/lib/python3/dist-packages", dirs_exist_ok=True)
    run(["chroot", root, "python3", "-m", "compileall", "-q", "/usr/lib/python3/dist-packages"])
    _copy_modules(tree, version, root)
    shutil.copy(ON_GUEST / "init.sh", root / "sbin/init-bench")
    (root / "sbin/init-bench").chmod(0o755)
    (root / "opt/keycast").mkdir(parents=True)
    (root / "etc/hostname").write_text("bench\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost bench\n")
    make_disk(root, made / "disk.ext4", room_mb=64)
    _make_initrd(tree, version, made)
    remove(tree)


def _unpack_kernel(kernel: Path, tree: Path, elf: Path) -> str:
    """Unpack the package: modules to `lib/modules` in `tree`, the kernel itself to `elf`. Return its version."""
    with tarfile.open(kernel) as tar:
        # Python 3.14 has another one by default; that of Debian 12, 3.11.2, has none yet
        tar.extraction_filter = getattr(tarfile, "tar_filter", lambda member, path: member)
        for member in tar:
            name = member.name.removeprefix("./").removeprefix("usr/")
            if name.startswith(("lib/modules/", "boot/vmlinuz-")) and (member.isfile() or member.isdir()):
                member.name = name
                tar.extract(member, tree)
    [vmlinuz] = (tree / "boot").iterdir()
    elf.write_bytes(_payload(vmlinuz.read_bytes()))
    version = vmlinuz.name.removeprefix("vmlinuz-")
    run(["depmod", "-b", tree, version])
    return version


def _payload(vmlinuz: bytes) -> bytes:
    """Return the ELF file inside of a compressed kernel, which QEMU starts two seconds sooner than the whole."""
    found = {vmlinuz.find(magic): magic for magic in (_XZ, _ZSTD)} | {-1: b""}
    at = min((each for each in found if each >= 0), default=-1)
    if found[at] == _XZ:
        elf = lzma.LZMADecompressor(format=lzma.FORMAT_XZ).decompress(vmlinuz[at:])
    else:
        elf = run(["sh", "-c", "zstd -dc 2>/dev/null || true"], vmlinuz[at:])  # what follows the payload is no zstd
    if not elf.startswith(_ELF):
        raise NoBench("The kernel of this release is packed in a way that the bench does not know.")
    return elf


def _copy_modules(tree: Path, version: str, root: Path) -> None:
    """Copy what MODULES need and all CRYPTO, uncompressed, as the guest's modprobe is not ours."""
    base = tree / "lib/modules" / version
    wanted = {path for name in MODULES for path in _needed(tree, version, name)}
    wanted |= {path for folder in CRYPTO for path in (base / folder).rglob("*.ko*")}
    for path in sorted(wanted):
        _unpack_module(path, root / path.relative_to(tree))
    for path in base.glob("modules.*"):
        shutil.copy(path, root / path.relative_to(tree))
    run(["depmod", "-b", root, version])


def _needed(tree: Path, version: str, module: str) -> Iterator[Path]:
    """Yield the files of a module and of those that it needs, in the order in which they are loaded."""
    shown = run(["modprobe", "-d", tree, "-S", version, "--show-depends", module]).decode()
    for line in shown.splitlines():
        word, _, path = line.strip().partition(" ")
        if word == "insmod":  # the others are built into the kernel
            yield Path(path.split()[0])


def _unpack_module(packed: Path, target: Path) -> None:
    octets = packed.read_bytes()
    target = target.with_suffix("") if target.suffix == ".xz" else target
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(lzma.decompress(octets) if packed.suffix == ".xz" else octets)


def _make_initrd(tree: Path, version: str, made: Path) -> None:
    """Make the initial RAM disk, with busybox and the modules that find the disk; uncompressed, it boots sooner."""
    folder = made / "initrd"
    for each in ("bin", "dev", "proc", "newroot", "modules"):
        (folder / each).mkdir(parents=True)
    shutil.copy(str(_which("busybox")), folder / "bin/busybox")
    order = list(dict.fromkeys(path for name in DISK_MODULES for path in _needed(tree, version, name)))
    for number, path in enumerate(order):
        _unpack_module(path, folder / "modules" / f"{number:02}.ko")
    shutil.copy(ON_GUEST / "initrd.sh", folder / "init")
    (folder / "init").chmod(0o755)
    os.mknod(folder / "dev/console", 0o600 | 0o020000, os.makedev(5, 1))
    names = "\n".join(path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")))
    (made / "initrd.cpio").write_bytes(run(["cpio", "-o", "-H", "newc", "--quiet", "-D", folder], names.encode()))
    remove(folder)
