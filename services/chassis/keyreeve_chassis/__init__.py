"""The microservice chassis: serving, identity, access rules, limits, settings, telemetry, storage."""
