"""Definition of a dataset, shared by pipeline and training: specs, records, representations, controls, codecs."""

__version__ = "0.2.0"
