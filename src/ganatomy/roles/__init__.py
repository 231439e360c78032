"""Kinds of roles, one module each: reading, framing, cutting, mirroring, encoding and writing of their values."""
