"""Kinds of tasks, each with its roles and scores, its predictors and its judge."""
