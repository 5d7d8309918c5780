"""Domains of recordings of dogs: those of people with coats for clothes, lower cameras and the activities of a dog."""

from dataclasses import replace

from dkp.synthetic.domains import DOMAINS, Coats, Domain

_ANY = Coats(
    markings={
        "solid": 0.2,
        "points": 0.1,
        "saddle": 0.13,
        "mask": 0.1,
        "bicolour": 0.15,
        "patches": 0.12,
        "spots": 0.07,
        "merle": 0.07,
        "brindle": 0.06,
    },
)

_PLAIN = Coats(
    markings={"solid": 0.45, "mask": 0.2, "bicolour": 0.2, "saddle": 0.15},
    darkness=(0.1, 0.65),
    redness=(0.3, 1.0),
    length=(0.0, 0.006),
    collar=0.2,
)

_MARKED = Coats(
    markings={
        "points": 0.25,
        "brindle": 0.2,
        "bicolour": 0.15,
        "merle": 0.15,
        "patches": 0.15,
        "spots": 0.05,
        "solid": 0.05,
    },
    darkness=(0.4, 1.0),
    redness=(0.0, 0.6),
    length=(0.003, 0.014),
    collar=0.5,
)

DOG_DOMAINS: dict[str, Domain] = {
    # A clean studio: plain light dogs of usual build that stand, walk and look around; cameras little above them.
    "source": replace(
        DOMAINS["source"],
        wardrobe=_PLAIN,
        height=(0.5, 1.1),
        motions={"stand": 0.3, "walk": 0.4, "look": 0.3},
        shape_scale=0.8,
    ),
    # A cluttered room: marked and dark coats, long-legged dogs that trot, sit, sniff and bow; high cameras.
    "target": replace(
        DOMAINS["target"],
        wardrobe=_MARKED,
        height=(1.1, 1.9),
        obstacles=1,
        shape_shift=(0.3, 0.8),  # larger, on longer legs
        motions={"trot": 0.25, "sit": 0.2, "sniff": 0.2, "bow": 0.1, "paw": 0.15, "walk": 0.1},
    ),
    "varied": replace(DOMAINS["varied"], wardrobe=_ANY, height=(0.4, 1.8)),
    # Crowded places, hard light, any camera.
    "wild": replace(DOMAINS["wild"], wardrobe=_ANY, height=(0.4, 1.9), motions={}),
    "studio": replace(DOMAINS["studio"], wardrobe=_ANY, height=(0.5, 1.2)),
    "outdoor": replace(DOMAINS["outdoor"], wardrobe=_ANY, height=(0.5, 1.4)),
}
"""Domains of dogs by name."""
