"""The Server's database in PostgreSQL, which several processes share. These modules alone import psycopg."""
