"""Files elsewhere: addresses that fsspec opens, and folders of results at such addresses."""
