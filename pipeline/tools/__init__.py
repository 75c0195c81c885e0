"""The commands validate, report, export-dataset, controls, lakh and doctor."""
