"""A service's schema: the revisions that a database has and may have, and the migrations between them."""
