"""What is kept on the disks of gateways, servers and clients: one rule for private files, one SQLite file, one lock.

| Module | What |
|---|---|
| `folders` | a folder that only its owner writes to |
| `files` | a file that only its owner reads: whole or not there, read only while private, overwritten |
| `contents` | the list of what was made in a folder, so that nothing lost is taken for a first start |
| `sqlite_file` | one SQLite file: private, synced, migrated, forgetful of what was deleted |
| `folder_lock` | one process at a time works on a folder |

Knows nothing of what is kept. Errors are sentences for a person; each room that uses a store names its own classes
for them (`errors.Faults`).
"""
