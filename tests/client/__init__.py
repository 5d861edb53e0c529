"""Tests of sundog.Client."""
