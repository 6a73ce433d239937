"""The page of ``gentool explore``: a server on this machine, and the files of the page."""
