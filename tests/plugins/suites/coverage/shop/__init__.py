"""A package of which each test file covers a part."""
