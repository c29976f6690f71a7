"""Errors that users cause and can fix: each is shown as one message, without a traceback.

Any other exception is a bug in this project and keeps its traceback.
"""


class UserError(ValueError):
    """User input cannot be used; the message says what is wrong and what to do."""


class ParamsError(UserError):
    """`params.yaml` cannot be used; the message names every faulty key and what to do."""


class DatasetError(UserError):
    """A dataset's files cannot be used; the message names the file, class or key."""


class BackboneError(UserError):
    """The frozen CLIP that params.yaml names is not available or does not fit its purpose."""


class UnsupportedTower(BackboneError, NotImplementedError):
    """A tower of the model is of a kind that this project cannot run."""


class PromptError(UserError):
    """A prompt or a context does not fit the text tower or the classes."""


class CorpusError(UserError):
    """A file of class descriptions cannot be used."""


class AskError(UserError):
    """The language model cannot be asked, or has not answered every request."""


class FetchError(UserError):
    """A download failed or is not what was expected."""


class DamagedFile(UserError):
    """A stored artefact is unreadable, has changed, or was made from something else."""


class StorageError(UserError):
    """A file cannot be written: the disk is full, or the folder is read-only."""


class MissingFile(UserError, FileNotFoundError):
    """A file that an earlier step makes is missing; the message says which step."""


class PublishedError(UserError):
    """The table of published numbers cannot be used."""


class ZeroShotMismatch(UserError):
    """Zero-shot accuracy is not as published; the message says by how much and what to do."""


class DivergedError(UserError, FloatingPointError):
    """A loss is not finite; the message names the seed and the step."""


class StageError(UserError):
    """A stage's result cannot be relied on; the message says why."""


class NotebookError(UserError):
    """A notebook cannot be run as a stage, or one of its cells failed with one of the above."""


class PredictionError(UserError):
    """A method cannot do what is asked for with these classes; the message says what can."""
