"""Claims of papers that synthesise the geometry of vessels."""

from ganatomy.claims.claim import ALIKE, Claim, Predicate

SHAPE, PRECISION, COVERAGE, TOLD, LENGTH_ERROR = (
    "shape distance",
    "precision",
    "coverage",
    "told apart",
    "length error",
)
SHAPE_MODEL, REAL = "shape model", "real"

VESSELS = Claim(
    "vessel-geometry-wgan",
    "A Wasserstein GAN makes geometries of coronary arteries that resemble real ones and are as diverse; asked for a "
    "length, it makes vessels of this length, which stay diverse.",
    {"wgan": {}, "conditional": {"condition": "length"}},
    (
        Predicate(
            "numbers of their shape are nearer to real vessels' than a shape model's", SHAPE, "wgan", SHAPE_MODEL
        ),
        Predicate("more of them lie among real vessels", PRECISION, "wgan", SHAPE_MODEL),
        Predicate("they cover more of the real vessels", COVERAGE, "wgan", SHAPE_MODEL),
        Predicate("they are harder to tell from real ones by their neighbours", TOLD, "wgan", SHAPE_MODEL),
        Predicate("they are told from real ones hardly better than by guessing", TOLD, "wgan", REAL, ALIKE),
        Predicate("they are as diverse as real ones", COVERAGE, "wgan", REAL, ALIKE),
        Predicate("lengths are nearer to what was asked for than by chance", LENGTH_ERROR, "conditional", REAL),
        Predicate("these vessels, too, cover more of the real ones", COVERAGE, "conditional", SHAPE_MODEL),
    ),
)

CLAIMS: tuple[Claim, ...] = (VESSELS,)
