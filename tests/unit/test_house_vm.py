"""Finding and fetching the VM: which archive is asked, and the sentence when there is none."""

import hashlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from keycast.micropython_vm import board_files, compile, debian_package, romfs, vm

BOOKWORM = """\
# a comment
Types: deb
URIs: http://deb.example.net/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.example.net/debian-security
Suites: bookworm-security
Components: main
"""


def archives(tmp_path, files):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(debian_package.debian_archives(tmp_path))


def test_the_machines_own_archive_is_used_with_the_suite_changed(tmp_path):
    assert archives(tmp_path, {"sources.list.d/debian.sources": BOOKWORM}) == [
        "Types: deb\nURIs: http://deb.example.net/debian\nSuites: trixie\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    ]


def test_a_key_written_into_the_entry_is_kept(tmp_path):
    inline = BOOKWORM.replace(
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg", "Signed-By:\n -----BEGIN\n .\n AAAA"
    )
    (entry,) = archives(tmp_path, {"sources.list.d/debian.sources": inline})
    assert entry.endswith("Signed-By: -----BEGIN\n .\n AAAA\n")


def test_the_classic_form_is_read_and_other_lines_are_not(tmp_path):
    lines = """\
# deb http://old.example.net/debian bookworm main
deb [arch=arm64 signed-by=/usr/share/keyrings/x.gpg] http://deb.example.net/debian bookworm main contrib
deb http://deb.example.net/debian bookworm-updates main
deb-src http://deb.example.net/debian bookworm main
deb http://example.net/other stable nonfree
"""
    assert archives(tmp_path, {"sources.list": lines}) == [
        "Types: deb\nURIs: http://deb.example.net/debian\nSuites: trixie\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/x.gpg\n"
    ]


def test_on_a_raspberry_pi_debians_archive_comes_before_the_makers(tmp_path):
    entries = archives(
        tmp_path,
        {
            "sources.list.d/raspi.list": "deb http://archive.raspberrypi.com/debian/ bookworm main\n",
            "sources.list": "deb http://deb.example.net/debian bookworm main\n",
        },
    )
    assert ["raspberrypi" in entry for entry in entries] == [False, True]


def test_a_disabled_entry_is_left_alone(tmp_path):
    assert archives(tmp_path, {"sources.list.d/debian.sources": "Enabled: no\n" + BOOKWORM.split("\n\n")[0][12:]}) == []


def test_without_debians_archive_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(debian_package, "architectures", lambda: ["i386"])
    monkeypatch.setattr(debian_package, "debian_archives", lambda apt, suite: iter(()))
    monkeypatch.delenv(vm.WANTED, raising=False)
    with pytest.raises(vm.NoVm, match=r"apt install micropython.*no source entry for Debian's archive"):
        vm.ensure(tmp_path, say=lambda line: None)
    assert not (tmp_path / "vm.json").exists()


def test_another_suite_of_debian_can_be_asked_for(tmp_path):
    (tmp_path / "debian.sources").write_text(BOOKWORM)
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "debian.sources").rename(tmp_path / "sources.list.d/debian.sources")
    (entry,) = debian_package.debian_archives(tmp_path, "sid")
    assert "\nSuites: sid\n" in entry


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("/nowhere/micropython -O2", "/nowhere/micropython -O2 is no MicroPython"),
        ("sid/m68k", "there is no sid/m68k here"),
    ],
)
def test_a_vm_that_is_named_is_that_one_or_none(tmp_path, monkeypatch, wanted, said):
    """Another one would let its tests pass for those of the one that was asked for."""
    monkeypatch.setattr(debian_package, "debian_archives", lambda apt, suite: iter(()))
    monkeypatch.setenv(vm.WANTED, wanted)
    with pytest.raises(vm.NoVm, match=said):
        vm.ensure(tmp_path, say=lambda line: None)


def test_a_vm_can_be_named_by_its_command(tmp_path):
    one = vm.ensure()
    assert vm.ensure(tmp_path, wanted=shlex.join(one.argv)) == one


@pytest.mark.parametrize(
    ("complaint", "said"),
    [
        ("W: GPG error: NO_PUBKEY 6ED0E7B82643E131\nE: The repository is not signed.", "debian-archive-keyring"),
        (
            "W: Failed to fetch ...  Temporary failure resolving\nE: Unable to locate package",
            "with a network connection",
        ),
        ("Reading...\nE: Unable to locate package micropython\n", "Unable to locate package"),
    ],
)
def test_apts_many_lines_become_one_sentence(complaint, said):
    assert said in debian_package._explained(complaint)


def test_a_vm_that_is_too_old_or_lacks_a_module_is_no_vm(tmp_path):
    for number, answer in enumerate(("echo '(1, 19, 1) 2147483647'", "exit 1", "echo nonsense")):
        script = tmp_path / f"vm{number}"
        script.write_text(f"#!/bin/sh\n{answer}\n")
        script.chmod(0o755)
        assert vm.probe([str(script)]) is None
    assert vm.probe([str(tmp_path / "absent")]) is None


@pytest.mark.parametrize("place", ["MICROPYPATH", "the folder where they are", "HOME"])
def test_a_vm_is_found_whatever_modules_its_owner_has_elsewhere(monkeypatch, tmp_path, place):
    """Such as a json.py of a program for boards, which MicroPython takes in place of its own."""
    found = vm.ensure()
    folder = tmp_path / (".micropython/lib" if place == "HOME" else "")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "json.py").write_text("raise ValueError\n")
    if place.isupper():
        monkeypatch.setenv(place, str(tmp_path))
    else:
        monkeypatch.chdir(folder)
    shadowed = subprocess.run([*found.argv, "-c", "import json"], capture_output=True)
    assert shadowed.returncode, "nothing is in the way"
    assert vm.probe(found.argv) == found


def test_a_vm_that_a_person_wants_to_look_into_is_found_and_ends(monkeypatch):
    found = vm.ensure()
    monkeypatch.setenv("MICROPYINSPECT", "1")
    assert vm.probe(found.argv) == found


def test_the_messages_of_apt_are_understood_in_every_language(monkeypatch, tmp_path):
    (tmp_path / "apt-get").write_text(
        '#!/bin/sh\n[ "$LC_ALL" = C ] && echo "E: Could not resolve archive.example" || printf "E: \\344"\nexit 100\n'
    )
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    found, complaint = debian_package._download("i386", "Types: deb\n", tmp_path / "work")
    assert not found and "could not be reached" in debian_package._explained(complaint)


def test_a_64_bit_vm_gets_twice_the_heap():
    """`w` lets MicroPython count in its own words: on 64 bits 96 KiB become 192."""
    assert vm.Vm(("vm",), (1, 25, 0), 64).command("x.py", heap_kib=96) == ["vm", "-X", "heapsize=96wK", "x.py"]


def test_compiling_is_incremental_and_leaves_nothing_behind(tmp_path):
    sources = {name: tmp_path / name for name in ("a.py", "b.py")}
    for name, path in sources.items():
        path.write_text(f"NAME = {name!r}\n")
    out = tmp_path / "out"
    assert compile.compile_tree(sources, out, 2) == 2
    assert compile.compile_tree(sources, out, 2) == 0
    sources["a.py"].write_text("NAME = 'other'\n")
    del sources["b.py"]
    assert compile.compile_tree(sources, out, 2) == 1
    assert [path.name for path in out.iterdir()] == ["a.mpy"]
    sources["a.py"].write_text("def broken(:\n")
    with pytest.raises(compile.CompileError, match=r"a\.py"):
        compile.compile_tree(sources, out, 2)


def test_the_vm_reads_our_romfs_images(tmp_path):
    """Names, folders, an empty file and one whose length takes three octets."""
    content = {"one.txt": b"1", "empty": b"", "deep/er/file.bin": bytes(range(256)) * 80}
    for name, octets in content.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(octets)
    image = tmp_path / "image.romfs"
    image.write_bytes(romfs.image(tmp_path / "tree"))
    script = (
        f"import sys\nsys.path.insert(0, {str(compile.ON_VM)!r})\nimport hashlib, binascii, rom\n"
        f"rom.mount({str(image)!r}, '/rom')\n"
        f"for name in {list(content)!r}:\n"
        "  print(binascii.hexlify(hashlib.sha256(open('/rom/' + name, 'rb').read()).digest()).decode())\n"
    )
    told = subprocess.run(vm.ensure().command("-c", script), capture_output=True, text=True, check=True).stdout.split()
    assert told == [hashlib.sha256(octets).hexdigest() for octets in content.values()]


def test_a_manifest_that_names_a_lost_file_says_what_to_do(tmp_path):
    manifest = tmp_path / "manifest.py"
    manifest.write_text('module("gone.py", opt=2)\n')
    with pytest.raises(FileNotFoundError, match="make manifest"):
        board_files.listed(manifest)


def test_the_boards_flash_stays_within_its_budget():
    """All .mpy of a board: at most 138 KiB, with both radios, end-to-end groups and updates, in a slot of 192 KiB."""
    compile.compile_board()
    assert sum(path.stat().st_size for path in Path(compile.BOARD_TREE).rglob("*.mpy")) <= 138 * 1024
