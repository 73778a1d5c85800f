"""The grammar of the legacy commands, as data: parsing, usage texts and documents come from it."""
