"""Asking the runtimes that apps use about a released bundle: which there are, how each is asked, and who agrees."""
