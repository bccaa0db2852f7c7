"""One module per data set, each ending in the same label table (`mien.data.label_table`)."""
