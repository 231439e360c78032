"""The papers' claims, by section of the survey, each written down before it was tested here."""
