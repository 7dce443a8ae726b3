"""The harness: it plans what a suite asks for, runs and measures it, keeps records, and gates them by earlier ones."""
