"""How a trained method did: who is judged on which cases, by which scores, with which verdict."""
