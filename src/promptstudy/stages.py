"""Writing dvc.yaml: the stages of a suite's methods, and the code that each stage depends on."""

from ruamel.yaml import YAML

from .files import written_whole
from .params import Params
from .pipeline import with_dependencies, with_methods


def rewrite(params: Params) -> None:
    """Write the stages of the suite's methods, and the code each depends on, into its dvc.yaml.

    Comments stay, and so does everything that is not about methods or src/.
    """
    path = params.root / "dvc.yaml"
    with_comments = YAML()
    with_comments.width = 100
    with_comments.indent(mapping=2, sequence=4, offset=2)
    definition = with_methods(with_comments.load(path), params.methods)
    with written_whole(path) as temporary:
        with_comments.dump(with_dependencies(definition, path.parent), temporary)
