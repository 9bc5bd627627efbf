"""The nightly drivers: read events, split by time, build a bundle, evaluate it, publish it."""
