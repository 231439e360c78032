"""Low-dose CT to routine-dose CT."""
