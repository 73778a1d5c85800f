"""What every service needs and none is about: serving, identity, access, limits, settings, telemetry, storage."""
