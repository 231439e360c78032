"""The scores of sets of generated images."""

from ganatomy.evaluation.judging import Score

KERNEL, FRECHET, SLICED, HISTOGRAM = "kernel distance", "frechet distance", "sliced wasserstein", "histogram distance"
PRECISION, RECALL, DENSITY, COVERAGE = "precision", "recall", "density", "coverage"
MS_SSIM, VARIETY, SPREAD, NEAREST, NDB = "ms-ssim", "variety", "spread", "nearest other", "ndb"
COPIES, AUTHENTICITY, ACCURACY = "copies", "authenticity", "label accuracy"
TOLD, CHANNELS, COPYING_TEST = "told apart", "cross-channel error", "copying statistic"
COLLAPSED = "collapsed"
"""Name of a number that is in no table: 1 for a resampling that looks collapsed, else 0."""

DISTANCE, LIKENESS, DIVERSITY, COPYING = "Distance", "Likeness and coverage", "Variety", "Training images"

SCORES: tuple[Score, ...] = (
    Score(KERNEL, "lower", "", "Squared maximum mean discrepancy, unbiased: equal distributions give 0 on average "
          "and may give less.", DISTANCE),
    Score(FRECHET, "lower", "", "Of normal distributions fitted to the features. Few images bias it upwards: read "
          "it beside that of real images.", DISTANCE),
    Score(SLICED, "lower", "", "Of 7x7 patches, mean over the levels of a Laplacian pyramid, times 1000, 8 bits.",
          DISTANCE),
    Score(HISTOGRAM, "lower", "", "Wasserstein-1 distance of the values, mean over channels.", DISTANCE),
    Score(TOLD, "lower", "", "Distance from 0.5 of the accuracy with which the nearest other image, of both sets "
          "together, says whether an image is real, one image of a subject: 0 where they cannot be told apart, 0.5 "
          "where they always can.", LIKENESS),
    Score(CHANNELS, "lower", "", "Norm of the difference of the channels' correlation matrices, of deviations from the "
          "mean image of a set: 0 where channels go together as in real images.", LIKENESS),
    Score(PRECISION, "higher", "", "Share of the samples within the neighbourhood of a real image.", LIKENESS),
    Score(RECALL, "higher", "", "Share of the real images within the neighbourhood of a sample.", LIKENESS),
    Score(DENSITY, None, "", "Real neighbourhoods around a sample; about 1 for real images.", LIKENESS),
    Score(COVERAGE, "higher", "", "Share of the real images with a sample in their neighbourhood.", LIKENESS),
    Score(ACCURACY, "higher", "", "Of a small classifier trained on real training images, told the label that was "
          "asked for.", LIKENESS),
    Score(MS_SSIM, None, "", "Mean of random pairs: higher than among real images is less varied, "
          "lower is no merit.", DIVERSITY),
    Score(VARIETY, None, "", "Total variance of the features over that of real images.", DIVERSITY),
    Score(SPREAD, None, "", "Mean distance of two samples over that of two real images.", DIVERSITY),
    Score(NEAREST, None, "", "Median distance to the nearest other sample over that among real images; far below 1 "
          "where images are repeated.", DIVERSITY),
    Score(NDB, "lower", "", "Share of clusters of training images that samples and real images fill differently; "
          "0.05 is expected.", DIVERSITY),
    Score(COPIES, "lower", "", "Share of samples that correlate better with a training image than 99 % of held-out "
          "images do; mirror images count.", COPYING),
    Score(COPYING_TEST, None, "", "Of Meehan's test of data copying: about 0 for real images, below -3 where samples "
          "lie nearer to training images than held-out ones do, above 3 where they are farther.", COPYING),
    Score(AUTHENTICITY, None, "", "Share of samples farther from their nearest training image than that one is "
          "from the others: 0 for copies, compare with real images.", COPYING),
)  # fmt: skip


def level(rows: int) -> str:
    """Return the name of the sliced Wasserstein distance of one level of the pyramid."""
    return f"{SLICED} at {rows} rows"
