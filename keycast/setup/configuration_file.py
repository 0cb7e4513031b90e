"""The configuration file before and after `keycast setup`: it is read once, and written once if a person wants it."""

import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gateway_agent.config.load import SIZE_MAX, ignore, of_text
from gateway_agent.errors import ConfigError
from keycast.setup.account import name_of
from keycast.setup.answers import Answers, answers_in, settings_of
from keycast.setup.edits import changes_between, edited
from keycast.setup.first_file import new_text
from private_store import files, plain_file


@dataclass(frozen=True)
class ConfigurationFile:
    """A file as it was found: its `text`, "" if it does not exist, and the `answers` in it, or the usual ones."""

    path: Path
    text: str = ""
    answers: Answers = field(default_factory=Answers)

    def with_answers(self, answers: Answers) -> str:
        """Return the text with other answers. Raises ConfigError if a gateway would refuse it."""
        before, after = settings_of(self.answers), settings_of(answers)
        text = edited(self.text, changes_between(before, after)) if self.text.strip() else new_text(after)
        of_text(text.encode(), self.path)
        return text

    def write(self, text: str) -> None:
        """Write the file; one that was there keeps its owner and its mode, a new one of root's has those of its folder.

        Raises ConfigError if it cannot be written, or was changed since it was read; then it stays as it is.
        """
        if not self.text:
            if os.path.lexists(self.path) and not self.path.read_bytes():
                self.path.unlink()
            files.write_new(self.path, text.encode(), ConfigError)
            folder = os.stat(self.path.parent)
            if os.geteuid() == 0 and folder.st_uid:  # root writes it for another
                os.chown(self.path, folder.st_uid, folder.st_gid)
            return
        with files.exchanging(self.path, ConfigError) as write:
            status = os.stat(self.path)
            if _text_of(self.path) != self.text:
                raise ConfigError(f"{self.path} was changed meanwhile.", "Type the command again: it reads it anew.")
            write(text.encode())
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(self.path, status.st_uid, status.st_gid)
            os.chmod(self.path, status.st_mode & 0o777)


def read(path: Path, tell: Callable[[str], None] = ignore) -> ConfigurationFile:
    """Return the file at `path`; the one that a link leads to, in its place.

    `tell` is called with one sentence for each unknown key in it. Raises ConfigError if it cannot be read or written,
    if it is another user's, and if it is no right configuration.
    """
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    if not path.name:
        raise ConfigError(f"{path} is a folder.", "Name a file.")
    _require_folder(path)
    if not os.path.lexists(path):
        return ConfigurationFile(path)
    owner = os.stat(path).st_uid
    if os.geteuid() not in (0, owner):
        raise ConfigError(
            f"{path} belongs to {name_of(owner)}.", f"Give the command as that user: sudo -u {name_of(owner)} ..."
        )
    text = _text_of(path)
    if not text.strip():
        return ConfigurationFile(path, text)
    of_text(text.encode(), path, tell)
    return ConfigurationFile(path, text, answers_in(tomllib.loads(text)))


def _text_of(path: Path) -> str:
    octets = plain_file.read(path, SIZE_MAX, ConfigError)
    try:
        return octets.decode("utf-8-sig")
    except UnicodeDecodeError:
        of_text(octets, path)  # names the line
        raise


def _require_folder(path: Path) -> None:
    """Raise ConfigError unless a file can be made beside `path`: before a person has answered all questions."""
    folder = path.parent
    if not folder.is_dir():
        raise ConfigError(f"There is no folder {folder}.", "Make it, or name another file.")
    if not os.access(folder, os.W_OK | os.X_OK):
        is_read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
        why = "its file system is read-only" if is_read_only else f"it belongs to {name_of(folder.stat().st_uid)}"
        raise ConfigError(f"The folder {folder} cannot be written: {why}.", "Name a file in another one.")
