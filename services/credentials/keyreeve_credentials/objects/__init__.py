"""Application servers, applications and user profiles, with the attributes that resolution reads."""
