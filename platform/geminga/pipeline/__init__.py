"""The stages in order: what each reads, what it writes, and when it may be skipped."""
