"""De-noising (survey section 4.1): low-dose CT to routine-dose CT."""
