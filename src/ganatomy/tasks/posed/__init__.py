"""Simulation of frames from the pose of a probe, learned from frames whose poses were tracked."""
