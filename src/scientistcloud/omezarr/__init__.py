"""The one form that is written: OME-Zarr 0.5 that xarray opens too."""
