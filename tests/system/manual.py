"""The commands of a page for users, typed as they stand there: one shell for the page, a home folder of its own.

The fenced blocks of a page say what they are: `sh` is typed line by line, `console` is what a command prints, `json`
what goes over a wire, any other is the content of a file. A command that runs a service until it is stopped (`keycast
gateway run`) goes on beside the others, as in a terminal of its own. Programs that no test machine has (systemctl,
mpremote) are the scripts in `stand_ins`.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import PATIENCE_S

STAND_INS = Path(__file__).with_name("stand_ins")
SERVICE = re.compile(r"keycast (gateway|server|kms|gms|cms|board) run\b")
READY = re.compile(
    r" INFO keycast: .* (serves|listens on|is reached over|is plugged in:) .*\n"
)  # what each says when it answers
LINE_LIMIT_S = PATIENCE_S
NOT_FOR_READERS = ("console", "json", "text")
_MARK = "--- ended with"


@dataclass(frozen=True)
class Block:
    """One fenced block: its page and language, the line on which its text begins, the heading above, its text."""

    page: Path
    language: str
    line: int
    heading: str
    text: str

    def lines(self) -> list[tuple[int, str]]:
        """(line of the page, command): a command that goes on after a backslash is one."""
        found: list[tuple[int, str]] = []
        going_on = False
        for number, line in enumerate(self.text.splitlines(), self.line):
            if going_on:
                first, begun = found[-1]
                found[-1] = (first, f"{begun}\n{line}")
            elif line.split("#")[0].strip():
                found.append((number, line))
            going_on = line.endswith("\\")
        return found


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order. Raises ValueError for one without a language or without an end."""
    found: list[Block] = []
    heading, language, begun, text = "", "", 0, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            if begun:
                found.append(Block(page, language, begun, heading, "\n".join(text) + "\n"))
                begun, text = 0, []
            else:
                language, begun = line[3:].strip(), number + 1
                if not language:
                    raise ValueError(f"{page.name}, line {number}: a block without a language")
        elif begun:
            text.append(line)
        elif line.startswith("#"):
            heading = line.lstrip("# ")
    if begun:
        raise ValueError(f"{page.name}: the block of line {begun} has no end")
    return found


class Reading:
    """What somebody types and writes who reads some sections of pages, each a page and its heading, in order."""

    def __init__(self, *sections: tuple[Path, str]) -> None:
        self.sections = sections

    def __enter__(self) -> Reading:
        self._rest = [
            block
            for page, heading in self.sections
            for block in blocks(page)
            if block.heading == heading and block.language not in NOT_FOR_READERS
        ]
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            assert not self._rest, f"nobody typed or wrote {self._rest[0]}"

    def next(self, language: str = "sh") -> Block:
        """The next block; fails the test if there is none, or one of another language."""
        assert self._rest, f"no {language} block is left in {self.sections}"
        block = self._rest.pop(0)
        assert block.language == language, f"{block.page.name}, line {block.line}: {block.language}, not {language}"
        return block


class Desk:
    """A person at a machine with a new home folder, who types what a page says.

    `prefix` are words that start a program on that machine (`ip netns exec NAME`); `folder` is where the person is, the
    home folder unless said. `replaced` says what a person puts in the place of an example, such as the secret that the
    board really shows; `then` what a person does after a command that begins so.
    """

    def __init__(self, home: Path, prefix: Sequence[str] = (), folder: Path | None = None) -> None:
        home.mkdir(exist_ok=True)
        self.home = home
        self.folder = folder or home
        self.typed: list[str] = []
        self.replaced: dict[str, str] = {}
        self.then: dict[str, Callable[[], object]] = {}
        self._prefix = prefix
        self._shell: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Desk:
        path = [str(STAND_INS), str(Path(sys.executable).parent), "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        environment = {"HOME": str(self.home), "PATH": ":".join(path), "LANG": "C.UTF-8", "COLUMNS": "200"}
        self._shell = await asyncio.create_subprocess_exec(
            *self._prefix,
            "bash",
            "--noprofile",
            "--norc",
            cwd=self.folder,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._shell is not None and self._shell.stdin is not None
        if self._shell.returncode is None:
            self._shell.stdin.write(b"kill $(jobs -p) 2>/dev/null; wait; exit 0\n")
            await self._shell.communicate()

    async def end_services(self) -> None:
        """End what goes on in terminals of its own."""
        await self._run("kill $(jobs -p) && wait")

    async def done(self, command: str) -> str:
        """Type a command of one's own that has to end with 0; what it printed."""
        code, words = await self.type(command)
        assert code == 0, f"{command!r} ended with {code}:\n{words}"
        return words

    def write(self, block: Block, name: str) -> Path:
        """Make the block the file `name` here, and return its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._own(block.text))
        return path

    def configure(self, block: Block, name: str = "keycast.toml") -> None:
        """Write a block of TOML into the configuration, in the place of a table of that name."""
        path = self.folder / name
        table = block.text.splitlines()[0].split("#")[0].strip()
        before, found, rest = path.read_text().partition(f"{table}\n")
        if found:
            assert "\n[" not in rest, f"{table} is not the last table of {name}"
        path.write_text(f"{before}\n{self._own(block.text)}")

    def _own(self, text: str) -> str:
        for example, real in self.replaced.items():
            text = text.replace(example, real)
        return text

    async def follow(self, block: Block) -> str:
        """Type the commands of a block; returns what they printed. Fails the test where one does not end with 0."""
        printed = ""
        for number, command in block.lines():
            code, words = await self.type(command)
            assert code == 0, f"{block.page.name}, line {number}: {command!r} ended with {code}:\n{words}"
            printed += words
        return printed

    async def type(self, command: str) -> tuple[int, str]:
        """Type one command; its exit code and what it printed. A service is there when this returns."""
        command = self._own(command)
        self.typed.append(command)
        if not SERVICE.match(command):
            code, words = await self._run(f"{{ {command}\n}} </dev/null")
            for begin, act in self.then.items():
                if command.startswith(begin):
                    act()
            return code, words
        log = self.home / f"terminal-{len(self.typed)}.log"
        log.touch()
        await self._run(f"{{ exec {command}\n}} >{log} 2>&1 </dev/null &")
        async with asyncio.timeout(LINE_LIMIT_S):
            while not READY.search(words := log.read_text()):
                assert (await self._run("jobs %%"))[0] == 0, f"{command!r} ended:\n{words}"
                await asyncio.sleep(0.05)
        return 0, words

    async def _run(self, text: str) -> tuple[int, str]:
        assert self._shell is not None and self._shell.stdin is not None and self._shell.stdout is not None
        self._shell.stdin.write(f'{text}\nprintf "\\n{_MARK} %s\\n" $?\n'.encode())
        words = ""
        async with asyncio.timeout(LINE_LIMIT_S):
            while True:
                line = (await self._shell.stdout.readline()).decode(errors="replace")
                assert line, f"the shell ended after {text!r}:\n{words}"
                if line.startswith(_MARK):
                    return int(line.removeprefix(_MARK)), words.removesuffix("\n")
                words += line
