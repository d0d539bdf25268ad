"""The dashboard's pages, one module each with its `router`; `ugro_py.web.mount` puts them together."""
