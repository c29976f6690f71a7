"""Paths and names that come from files and folders: inside the images folder, and readable."""

import os
import posixpath
import re
import sys


def path_fault(path):
    """Return why a path of an image, relative to the images folder, cannot be used, or None.

    What a link in that folder leads to is the user's own affair.
    """
    if "\0" in path:
        return "holds a NUL, which no path can have; correct it"
    if path.startswith("/") or re.match(r"[A-Za-z]:[\\/]", path):
        return "is absolute; paths are relative to the images folder"
    if ".." in path and re.match(r"\.\.(/|$)", posixpath.normpath(path)):
        return "leads out of the images folder; move the image there"
    if path.strip("./") == "":
        return "names no file; correct it"
    return text_fault(path)


def text_fault(text):
    """Return why a name cannot be written as text or as the name of a file, or None."""
    if text.isascii():
        return None
    try:
        text.encode()
        os.fsencode(text)
    except UnicodeEncodeError:
        encoding = sys.getfilesystemencoding()
        if encoding != "utf-8":
            return (f"cannot be written in this terminal's encoding of text, {encoding}; set the "
                    "environment variable PYTHONUTF8=1 and run this again")
        return "is not text in UTF-8; rename it"
    return None
