"""Hindsight judges: what could have been achieved, given the whole tape."""
