"""Trust tables: rows that decide about rights, protected against whoever can only write the database."""
