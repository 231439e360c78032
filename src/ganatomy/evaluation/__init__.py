"""How a trained method did: statistics over patients, figures and reports."""
