"""One file a kind of role: how it is read, framed, cut, mirrored, encoded, written, and drawn for tests."""
