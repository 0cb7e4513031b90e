"""What is kept on the disks of gateways, servers and clients: one rule for private files, one SQLite file, one lock.

| Module | What |
|---|---|
| `folders` | a folder that only its owner writes to |
| `files` | a file that only its owner reads: whole or not there, read only while private, overwritten |
| `contents` | the list of what was made in a folder, so that a lost file is not taken for a first start |
| `sqlite_file` | one SQLite file: private, synced, migrated, with deleted rows overwritten |
| `migrations` | the numbered SQL scripts of a package |
| `folder_lock` | one process at a time works on a folder |
| `sealed` | a file that only a passphrase or a private key opens, with a head that everybody can read |
| `backup_keys` | the key pair for whom a file is sealed |
| `archive` | a backup: one sealed file that holds several |
| `last_backup` | a note in a state folder of the last backup that was made of it |
| `restoring` | a whole state put in place of another one, also when that is interrupted and repeated |
| `plain_file` | a file that a person named and that holds no secret |

This package knows nothing about what is kept. Its errors are sentences for a person; each room that uses a store names
its own classes for them (`errors.Faults`).
"""
