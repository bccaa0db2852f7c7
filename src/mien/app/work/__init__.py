"""The workspace of an app: its folders, its queue of analyses, uploads, and what happens there."""
