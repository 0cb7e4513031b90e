"""The settings of a key server: the folder of its state, its database, and the addresses at which it listens."""

from pathlib import Path

from pydantic import Field, SecretStr

from http_door.listening import HttpListening


class Listening(HttpListening):
    """The settings of a server: the folder of its state, its database, and the addresses at which it listens."""

    state_dir: Path = Field(description="folder of the store, and of what else the server keeps")
    database: SecretStr | None = Field(None, description="postgresql://...; none: SQLite in state_dir")

    @property
    def database_url(self) -> str | None:
        """The URL of PostgreSQL with its password, None for SQLite."""
        return self.database.get_secret_value() if self.database else None
