"""Fits a curve to measured points."""
