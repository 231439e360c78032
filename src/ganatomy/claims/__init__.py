"""What papers claim, and how a claim is tested."""
