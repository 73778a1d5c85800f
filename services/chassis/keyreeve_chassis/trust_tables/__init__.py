"""Trust tables: rows that decide about rights, protected against a party that can only write the database."""
