"""Storage kit: one face over SQLite and PostgreSQL, the schema, its migrations, change feed, bulk load."""
