"""Write into dvc.yaml which files of src/ each stage depends on, as found in the code."""

from ..params import load_params


def arguments(parser):
    """Declare what the command takes: nothing."""


def run(args):
    """Rewrite the lists `deps` of dvc.yaml; comments and everything else stay."""
    from ruamel.yaml import YAML

    from ..files import written_whole
    from ..pipeline import with_dependencies
    path = load_params(args.params).root / "dvc.yaml"
    yaml = YAML()
    yaml.width = 100
    yaml.indent(mapping=2, sequence=4, offset=2)
    definition = with_dependencies(yaml.load(path), path.parent)
    with written_whole(path) as temporary:
        yaml.dump(definition, temporary)
