"""Baur et al.: synthesis of skin lesions by progressive growing."""

from ganatomy.methods.frameworks.pgan import PGAN


class PGANSkin(PGAN):
    """Dermoscopic images of skin lesions by progressive growing of GANs.

    Baur, Albarqouni & Navab, Generating Highly Realistic Images of Skin Lesions with GANs, OR 2.0 and ISIC workshops
    at MICCAI 2018, LNCS 11041. doi:10.1007/978-3-030-01201-4_28. arXiv 1809.01410.
    """

    stated_augmentation = "mirrored, in the release of progressive growing"

    class Config(PGAN.Config):
        """The numbers of PGAN up to 256 pixels: schedule and batches are those of its code (our choice)."""

        size: tuple[int, ...] = (256, 256)  # rows and columns made
        final_images: int = 600_000  # real images shown at the full size after fading (our choice)

    config: Config
