"""Routes of recordings, studies, and cameras of pages."""
