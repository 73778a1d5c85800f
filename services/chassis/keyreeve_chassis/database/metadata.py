"""The metadata that a service's tables are registered with."""

from sqlalchemy import MetaData


def service_metadata() -> MetaData:
    """New metadata, with the names of constraints and indexes that migrations use."""
    return MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
