"""How good scores are: measures with intervals, calibration, honest tuning, reports. No torch."""
