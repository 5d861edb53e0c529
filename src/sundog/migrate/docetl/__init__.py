"""DocETL's pipelines as flows."""
