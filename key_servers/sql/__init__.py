"""SQL stores of the key servers: one SQLite file by default, PostgreSQL by URL, the same statements for both.

    database = await open_database(url, state_dir / "kms.sqlite3")
    await migrate(database, "key_servers.kms.migrations")
    async with database.transaction() as sql:
        rows = await sql.rows("SELECT name FROM users WHERE user_uri = $1", uri)

A method whose transaction may be in the way of another process's is decorated with `again`.

Statements use the common part of both: placeholders $1, $2, ...; columns TEXT and BIGINT; ON CONFLICT; RETURNING.
"""

from key_servers.sql.database import Database, Transaction, Value, again, migrate
from key_servers.sql.opening import open_database

__all__ = ["Database", "Transaction", "Value", "again", "migrate", "open_database"]
