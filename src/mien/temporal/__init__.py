"""Work over time: on the readings of a stream (`readings`), on rows of a label table (`rows`, `strides`), and honest tuning (`tuning`)."""
