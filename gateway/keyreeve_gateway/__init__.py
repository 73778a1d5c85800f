"""The legacy commands: they parse a legacy verb, call RPCs, and render the legacy output."""
