"""Checks that paths and names from files and folders are readable and in the images folder."""

import os
import posixpath
import re
import sys


def path_fault(path: str) -> str | None:
    """Return why an image's path, relative to the images folder, cannot be used, or None.

    Links in that folder may lead anywhere.
    """
    if "\0" in path:
        return "holds a NUL, which no path can have; correct it"
    if path.startswith("/") or re.match(r"[A-Za-z]:[\\/]", path):
        return "is absolute; paths are relative to the images folder"
    if ".." in path and re.match(r"\.\.(/|$)", posixpath.normpath(path)):
        return "leads out of the images folder; move the image into it"
    if path.strip("./") == "":
        return "names no file; correct it"
    return text_fault(path)


def text_fault(text: str) -> str | None:
    """Return why a name cannot be written as text or as the name of a file, or None."""
    if text.isascii():
        return None
    try:
        text.encode()
        os.fsencode(text)
    except UnicodeEncodeError:
        encoding = sys.getfilesystemencoding()
        if encoding != "utf-8":
            return (f"cannot be written in this terminal's text encoding, {encoding}; set the "
                    "environment variable PYTHONUTF8=1 and run this again")
        return "is not text in UTF-8; rename it"
    return None
