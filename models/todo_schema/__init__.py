"""Mirrors of the Todo schema for applications: SQLModel classes that read what the SQL defines."""
