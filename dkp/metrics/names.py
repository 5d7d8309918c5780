"""Names of values: those of one pair of cameras or one joint are many, and are left out of tables."""


def is_detail(name: str) -> bool:
    """Whether a value is of one pair of cameras or of one joint, by its name with or without the stage."""
    return any(part in ("pair", "joint") for part in name.split("/")[:-1])
