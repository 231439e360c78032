"""Catalogue of all systems, one row each, and the functions that look up a system by name.

The systems are those reviewed in "GANs for Medical Image Analysis" (Kazeminia et al., 2018), sections 4.1
to 4.6, in the survey's order, followed by the base frameworks behind them; `COMPARED` names the others. Reading the
table imports no method and no torch; the class of a system is imported when it is first used.

`resolve` also accepts methods from outside the package, named by file or module, and those that installed packages
register. `known` accepts neither file nor module, so that a name read from a run file never decides what is imported.
"""

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

from ganatomy.errors import UserError

Section = Literal[
    "denoising", "reconstruction", "segmentation", "detection", "classification", "synthesis", "frameworks"
]
Dims = Literal["1D", "2D", "2D/3D", "3D"]
State = Literal["ready", "planned"]

SEEN: dict[Any, Dims] = {1: "1D", 2: "2D", 3: "3D"}
"""Number of spatial axes that the networks of a method see, to its name in the catalogue."""
COMPARED = ("unet", "cnn-classifier")
"""Systems without an adversary that the survey does not review, and that others are compared with."""
METHODS = "ganatomy.methods"
"""Group of the entry points by which installed packages register methods."""
IDENTIFIER = re.compile(r"doi:\s*(10\.\S+?)(?=[.,;)]*(?:\s|$))|arXiv[:\s]\s*(\d{4}\.\d{4,5})", re.IGNORECASE)
"""Pattern of a DOI or an arXiv number in a citation."""


@dataclass(frozen=True)
class System:
    """A system of the survey, a base framework, or a method from outside the package.

    Attributes:
        slug: name on the command line and in run files.
        reference: number in the survey's bibliography; None for what the survey does not list.
        title: name in texts and tables.
        section: section of the survey, "frameworks", or "outside" for a method from outside the package.
        authors: who published it and when; for a method from outside, the citation in its docstring.
        modality: images for which it was published.
        dims: spatial axes that its networks see.
        what: what it does, as a phrase that begins with a verb; at most 70 characters for a row of the catalogue.
        doi_or_arxiv: bare DOI ("10.…") or "arXiv:…"; None where neither is recorded.
        module: "package.module:Class" of an implemented system; None for a planned one.
        aliases: other names on the command line.
    """

    slug: str
    reference: int | None
    title: str
    section: Section | Literal["outside"]
    authors: str
    modality: str
    dims: Dims
    what: str
    doi_or_arxiv: str | None
    module: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def state(self) -> State:
        """State of the system: "ready" if it is implemented, else "planned"."""
        return "ready" if self.module else "planned"

    @property
    def url(self) -> str | None:
        """Address of the paper, None where no identifier is recorded."""
        if self.doi_or_arxiv is None:
            return None
        if self.doi_or_arxiv.startswith("arXiv:"):
            return f"https://arxiv.org/abs/{self.doi_or_arxiv.removeprefix('arXiv:')}"
        return f"https://doi.org/{self.doi_or_arxiv}"

    @property
    def citation(self) -> str:
        """Citation: authors, year and identifier, as far as they are recorded."""
        identifier = self.doi_or_arxiv or ""
        if not identifier or identifier.removeprefix("arXiv:") in self.authors:
            return self.authors
        return f"{self.authors}, {'' if identifier.startswith('arXiv:') else 'doi:'}{identifier}"

    @property
    def cls(self) -> type[Any]:
        """Class of the method, imported when it is first used.

        Raises:
            UserError: the system is only planned, or its class cannot be imported.
        """
        if self.module is None:
            names = ", ".join(other.slug for other in ready())
            raise UserError(f"system '{self.slug}' is planned and cannot be used yet; ready are {names}")
        method: type[Any] = attribute(self.module)
        return method


# Formatted by hand so that a system stays a block of three lines: who published it, what it does, where it is.
# fmt: off
SYSTEMS: tuple[System, ...] = (
    System("wolterink-ldct", 14, "Cardiac low-dose CT GAN", "denoising", "Wolterink et al., 2017",
           "cardiac CT", "3D", "denoises cardiac CT with voxel-wise and adversarial losses",
           "10.1109/TMI.2017.2708987", "ganatomy.methods.denoising.wolterink_ldct:WolterinkLDCT"),
    System("wgan-vgg", 15, "WGAN-VGG", "denoising", "Yang et al., 2018",
           "abdominal CT", "2D", "denoises CT with a Wasserstein critic and a perceptual loss",
           "10.1109/TMI.2018.2827462", "ganatomy.methods.denoising.wgan_vgg:WGANVGG"),
    System("sagan-ct", 16, "SAGAN", "denoising", "Yi & Babyn, 2018",
           "CT", "2D", "denoises CT while a sharpness map keeps its edges",
           "arXiv:1708.06453", "ganatomy.methods.denoising.sagan_ct:SAGAN"),

    System("deep-dealiasing", 18, "Deep De-Aliasing", "reconstruction", "Yu et al., 2017",
           "brain MRI", "2D", "removes aliasing from undersampled MRI with a refining U-Net",
           "arXiv:1705.07137", module="ganatomy.methods.reconstruction.deep_dealiasing:DeepDealiasing"),
    System("dagan", 19, "DAGAN", "reconstruction", "Yang et al., 2018",
           "brain MRI", "2D", "removes aliasing with image, frequency and perceptual losses",
           "10.1109/TMI.2017.2785879", module="ganatomy.methods.reconstruction.dagan:DAGAN"),
    System("csmri-refinement", 20, "Perceptual refinement", "reconstruction", "Seitzer et al., 2018",
           "cardiac MRI", "2D", "reconstructs for pixel error first, then refines perceptually",
           "arXiv:1806.11216",
           module="ganatomy.methods.reconstruction.csmri_refinement:CSMRIRefinement"),
    System("refinegan", 22, "RefineGAN", "reconstruction", "Quan et al., 2018",
           "MRI", "2D", "reconstructs with two chained generators and a cyclic loss",
           "10.1109/TMI.2018.2820120", module="ganatomy.methods.reconstruction.refinegan:RefineGAN"),
    System("gancs", 23, "GANCS", "reconstruction", "Mardani et al., 2017",
           "abdominal MRI", "2D", "reconstructs with a least-squares GAN and data consistency",
           "arXiv:1706.00051", module="ganatomy.methods.reconstruction.gancs:GANCS"),
    System("kspace-gan", 24, "k-space GAN", "reconstruction", "Shitrit & Riklin-Raviv, 2017",
           "brain MRI", "2D", "completes k-space; the discriminator sees the resulting image",
           None, module="ganatomy.methods.reconstruction.kspace_gan:KSpaceGAN"),
    System("thin-slice-3dsrgan", 25, "3DSRGAN", "reconstruction", "Li et al., 2017",
           "brain MRI", "3D", "restores thin slices from thick-slice scans",
           "10.1007/978-3-319-67389-9_38",
           module="ganatomy.methods.reconstruction.thin_slice_3dsrgan:ThinSliceSRGAN"),
    System("srgan3d-brain", 26, "3D SRGAN", "reconstruction", "Sánchez & Vilaplana, 2018",
           "brain MRI", "3D", "super-resolves volumes with a least-squares SRGAN in 3D",
           "arXiv:1812.11440", module="ganatomy.methods.reconstruction.srgan3d_brain:SRGAN3D"),
    System("mdcsrn", 31, "mDCSRN-GAN", "reconstruction", "Chen et al., 2018",
           "brain MRI", "3D", "super-resolves volumes with dense blocks and a Wasserstein critic",
           "arXiv:1803.01417", module="ganatomy.methods.reconstruction.mdcsrn:MDCSRN"),
    System("pcle-cycle-sr", 33, "Endomicroscopy cycle SR", "reconstruction", "Ravì et al., 2019",
           "endomicroscopy", "2D", "super-resolves endomicroscopy without paired images",
           "10.1016/j.media.2019.01.011", module="ganatomy.methods.reconstruction.pcle_cycle_sr:PCLECycleSR"),
    System("saliency-srgan", 34, "Saliency SRGAN", "reconstruction", "Mahapatra et al., 2017",
           "fundus photography", "2D", "super-resolves the retina, weighting the error by saliency",
           None, module="ganatomy.methods.reconstruction.saliency_srgan:SaliencySRGAN"),

    System("segan", 39, "SegAN", "segmentation", "Xue et al., 2018",
           "brain MRI", "2D", "segments tumour regions against a multi-scale L1 critic",
           "10.1007/s12021-018-9377-x", module="ganatomy.methods.segmentation.segan:SegAN"),
    System("unet", None, "U-Net planned from the data", "segmentation", "Isensee et al., 2021",
           "any", "2D/3D", "segments without an adversary, planned from the data: the comparison",
           "10.1038/s41592-020-01008-z", module="ganatomy.methods.segmentation.unet:UNet"),
    System("brats-cgan", 40, "Brain-tumour cGAN", "segmentation", "Rezaei et al., 2017",
           "brain MRI", "2D", "segments tumour regions with virtual and reference batch norm",
           "arXiv:1708.05227", module="ganatomy.methods.segmentation.brats_cgan:BratsCGAN", aliases=("rezaei-cgan",)),
    System("brain-adv-dilated", 42, "Adversarial dilated CNN", "segmentation", "Moeskops et al., 2017",
           "brain MRI", "2D", "segments brain tissue: dilated convolutions and a discriminator",
           "10.1007/978-3-319-67558-9_7", module="ganatomy.methods.segmentation.brain_adv_dilated:BrainAdvDilated",
           aliases=("moeskops",)),
    System("brats-adv-patch", 43, "Adversarial patch network", "segmentation", "Li et al., 2017",
           "brain MRI", "2D", "segments tumours patch by patch, with a discriminator",
           "10.1007/978-3-319-75238-9_11", module="ganatomy.methods.segmentation.brats_adv_patch:BratsAdvPatch",
           aliases=("li-brain-adv",)),
    System("uda-lesion", 44, "Adversarial domain adaptation", "segmentation", "Kamnitsas et al., 2017",
           "brain MRI", "3D", "segments lesions on a new scanner without labels from it",
           "10.1007/978-3-319-59050-9_47", module="ganatomy.methods.segmentation.uda_lesion:UDALesion",
           aliases=("deepmedic-uda",)),
    System("scan-cxr", 45, "SCAN", "segmentation", "Dai et al., 2018",
           "chest X-ray", "2D", "segments lungs and heart; a discriminator learns their structure",
           "10.1007/978-3-030-00889-5_30", module="ganatomy.methods.segmentation.scan_cxr:SCAN"),
    System("v-gan", 46, "V-GAN", "segmentation", "Son et al., 2017",
           "fundus photography", "2D", "segments retinal vessels with pixel, patch or image discriminators",
           "arXiv:1706.09318", module="ganatomy.methods.segmentation.v_gan:VGAN"),
    System("vessel-dcgan-ssl", 47, "Vessel DCGAN", "segmentation", "Lahiri et al., 2017",
           "fundus photography", "2D", "segments retinal vessels from few labels with a DCGAN classifier",
           "10.1109/CVPRW.2017.110", aliases=("lahiri",),
           module="ganatomy.methods.segmentation.vessel_dcgan_ssl:VesselDCGAN"),
    System("resunet-cgan-odoc", 48, "ResU-net cGAN", "segmentation", "Shankaranarayana et al., 2017",
           "fundus photography", "2D", "segments optic disc and cup together",
           "10.1007/978-3-319-67561-9_19", aliases=("odoc-cgan",),
           module="ganatomy.methods.segmentation.resunet_cgan_odoc:OpticDiscCGAN"),
    System("ssnet", 49, "SSNet", "segmentation", "Huo et al., 2018",
           "abdominal MRI", "2D", "segments enlarged spleens with large global kernels",
           "10.1117/12.2293406", module="ganatomy.methods.segmentation.ssnet:SSNet"),
    System("di2in-an", 50, "DI2IN-AN", "segmentation", "Yang et al., 2017",
           "abdominal CT", "3D", "segments the liver in whole volumes",
           "10.1007/978-3-319-66179-7_58", module="ganatomy.methods.segmentation.di2in_an:DI2INAN"),
    System("polyphase-cyclegan", 51, "Polyphase CycleGAN", "segmentation", "Kim & Ye, 2018",
           "abdominal CT", "2D", "segments liver and lesions through an image-mask cycle",
           None, module="ganatomy.methods.segmentation.polyphase_cyclegan:PolyphaseCycleGAN"),
    System("spheroid-msan", 52, "Multiscale adversarial network", "segmentation", "Sadanandan et al., 2017",
           "bright-field microscopy", "2D", "segments cell clusters with a weighted multiscale network",
           "10.1109/ICCVW.2017.11", module="ganatomy.methods.segmentation.spheroid_msan:SpheroidMSAN"),
    System("rib-cage-gan", 53, "Rib Cage GAN", "segmentation", "Arbelle & Riklin-Raviv, 2018",
           "fluorescence microscopy", "2D", "segments cells; only the discriminator sees true segmentations",
           "arXiv:1709.05860", module="ganatomy.methods.segmentation.rib_cage_gan:RibCageGAN"),
    System("dan", 54, "DAN", "segmentation", "Zhang et al., 2017",
           "histology and microscopy", "2D", "segments, and learns from unannotated images, too",
           "10.1007/978-3-319-66179-7_47", module="ganatomy.methods.segmentation.dan:DAN"),
    System("voxel-atlas-gan", 56, "VoxelAtlasGAN", "segmentation", "Dong et al., 2018",
           "echocardiography", "3D", "segments the left ventricle guided by an atlas",
           "arXiv:1806.03619", module="ganatomy.methods.segmentation.voxel_atlas_gan:VoxelAtlasGAN"),
    System("btrfly-net", 58, "Btrfly Net", "segmentation", "Sekuboyina et al., 2018",
           "spine CT", "3D", "labels vertebrae from sagittal and coronal projections",
           "arXiv:1804.01307", module="ganatomy.methods.segmentation.btrfly_net:BtrflyNet"),

    System("anogan", 61, "AnoGAN", "detection", "Schlegl et al., 2017",
           "retinal OCT", "2D", "finds anomalies by searching the latent space of healthy images",
           "arXiv:1703.05921", module="ganatomy.methods.detection.anogan:AnoGAN"),
    System("caae", 62, "cAAE", "detection", "Chen & Konukoglu, 2018",
           "brain MRI", "2D", "finds lesions with an autoencoder whose latent code is consistent",
           "arXiv:1806.04972", module="ganatomy.methods.detection.caae:CAAE"),
    System("anovaegan", 63, "AnoVAEGAN", "detection", "Baur et al., 2018",
           "brain MRI", "2D", "finds lesions that a VAE-GAN of healthy brains cannot reconstruct",
           "10.1007/978-3-030-11723-8_16", module="ganatomy.methods.detection.anovaegan:AnoVAEGAN"),
    System("va-gan", 65, "VA-GAN", "detection", "Baumgartner et al., 2018",
           "brain MRI", "2D/3D", "maps the visible effect of a disease as an additive change",
           "arXiv:1711.08998", module="ganatomy.methods.detection.va_gan:VAGAN"),
    System("kohl-advseg", 66, "Adversarial U-Net", "detection", "Kohl et al., 2017",
           "prostate MRI", "2D", "detects aggressive prostate cancer by segmenting it",
           "arXiv:1702.08014", module="ganatomy.methods.detection.kohl_advseg:AdversarialUNet"),
    System("udrea-lesion-cgan", 67, "Skin-lesion cGAN", "detection", "Udrea & Mitra, 2017",
           "skin photography", "2D", "finds skin lesions in ordinary photographs",
           None, module="ganatomy.methods.detection.udrea_lesion_cgan:SkinLesionCGAN"),
    System("dacal-landmarks", 68, "Context-aware landmarks", "detection", "Tuysuzoglu et al., 2018",
           "prostate ultrasound", "2D", "finds landmarks on the prostate and the contour through them",
           "10.1007/978-3-030-00937-3_18", module="ganatomy.methods.detection.dacal_landmarks:DacalLandmarks"),

    System("scgan-lv-coverage", 69, "SCGAN", "classification", "Zhang et al., 2017",
           "cardiac MRI", "2D", "detects missing basal or apical slices in cardiac stacks",
           "10.1007/978-3-319-68127-6_7",
           module="ganatomy.methods.classification.scgan_lv_coverage:SCGAN"),
    System("cnn-classifier", None, "CNN classifier", "classification", "LeCun et al., 1998",
           "any", "2D", "classifies without an adversary, trained as usual: the comparison",
           "10.1109/5.726791", module="ganatomy.methods.classification.cnn_classifier:CNNClassifier"),

    System("liver-dcgan-aug", 70, "Liver-lesion DCGAN", "synthesis", "Frid-Adar et al., 2018",
           "abdominal CT", "2D", "samples liver lesions by class to train a classifier",
           "arXiv:1801.02385", "ganatomy.methods.synthesis.liver_dcgan_aug:LiverDCGAN"),
    System("nodule-dcgan-vtt", 71, "Lung-nodule DCGAN", "synthesis", "Chuquicusma et al., 2018",
           "chest CT", "2D", "samples benign and malignant lung nodules",
           "arXiv:1710.09762", "ganatomy.methods.synthesis.nodule_dcgan_vtt:NoduleDCGAN"),
    System("prostate-lesion-dcgan", 72, "Prostate-lesion DCGAN", "synthesis", "Kitchen & Seah, 2017",
           "prostate MRI", "2D", "samples prostate lesions in several aligned sequences",
           "arXiv:1708.00129", "ganatomy.methods.synthesis.prostate_lesion_dcgan:ProstateLesionDCGAN"),
    System("brain-manifold-dcgan", 73, "Brain-slice DCGAN", "synthesis", "Bermudez et al., 2018",
           "brain MRI", "2D", "samples whole axial brain slices",
           "arXiv:1801.01847", "ganatomy.methods.synthesis.brain_manifold_dcgan:BrainManifoldDCGAN"),
    System("melanogans", 74, "MelanoGANs", "synthesis", "Baur et al., 2018",
           "dermoscopy", "2D", "samples skin lesions with DCGAN, LAPGAN and a variant of it",
           "arXiv:1804.04338", module="ganatomy.methods.synthesis.melanogans:MelanoGANs"),
    System("pgan-skin", 75, "Skin-lesion PGAN", "synthesis", "Baur et al., 2018",
           "dermoscopy", "2D", "samples skin lesions by progressive growing",
           "10.1007/978-3-030-01201-4_28", module="ganatomy.methods.synthesis.pgan_skin:PGANSkin"),
    System("context-aware-gan", 76, "Context-aware GAN", "synthesis", "Nie et al., 2017",
           "MRI to CT", "3D", "predicts CT from MRI with a cascade that refines its estimate",
           "arXiv:1612.05362", "ganatomy.methods.synthesis.context_aware_gan:ContextAwareGAN"),
    System("unpaired-mr2ct", 77, "Unpaired MR-to-CT CycleGAN", "synthesis", "Wolterink et al., 2017",
           "brain MRI to CT", "2D", "predicts CT from MRI, learned without paired scans",
           "arXiv:1708.01155", "ganatomy.methods.synthesis.unpaired_mr2ct:UnpairedMR2CT"),
    System("cardiac-cyclegan", 78, "Cardiac CycleGAN", "synthesis", "Chartsias et al., 2017",
           "cardiac CT to MRI", "2D", "translates CT and its heart mask into MRI, without pairs",
           "10.1007/978-3-319-68127-6_1", "ganatomy.methods.synthesis.cardiac_cyclegan:CardiacCycleGAN"),
    System("vess2ret", 79, "vess2ret", "synthesis", "Costa et al., 2017",
           "fundus photography", "2D", "synthesises a fundus image from a vessel map",
           "arXiv:1701.08974",
           "ganatomy.methods.synthesis.vess2ret:Vess2Ret"),
    System("retina-aae", 80, "Retina AAE", "synthesis", "Costa et al., 2018",
           "fundus photography", "2D", "samples a vessel map with an AAE, then a fundus image from it",
           "10.1109/TMI.2017.2759102",
           "ganatomy.methods.synthesis.retina_aae:RetinaAAE"),
    System("dual-gan", 81, "Dual GAN", "synthesis", "Guibas et al., 2017",
           "fundus photography", "2D", "samples a vessel map with a GAN, then a fundus image from it",
           "arXiv:1709.01872",
           "ganatomy.methods.synthesis.dual_gan:DualGAN"),
    System("fila-sgan", 82, "Fila-sGAN", "synthesis", "Zhao et al., 2017",
           "fundus and neuron images", "2D", "synthesises filament images from a map, in an example's style",
           "arXiv:1706.02185", module="ganatomy.methods.synthesis.fila_sgan:FilaSGAN"),
    System("virtual-pet", 83, "Virtual PET", "synthesis", "Ben-Cohen et al., 2017",
           "abdominal CT to PET", "2D/3D", "predicts PET from CT by blending an FCN with a cGAN",
           "arXiv:1707.09585", module="ganatomy.methods.synthesis.virtual_pet:VirtualPET"),
    System("m-gan", 84, "M-GAN", "synthesis", "Bi et al., 2017",
           "chest CT to PET", "2D", "predicts PET from CT and a tumour label map",
           "arXiv:1707.09747", module="ganatomy.methods.synthesis.m_gan:MultiChannelGAN"),
    System("sketcher-refiner", 85, "Sketcher-Refiner", "synthesis", "Wei et al., 2018",
           "brain MRI to PET", "3D", "predicts myelin PET from MRI: sketch first, then refine",
           "arXiv:1804.08039", "ganatomy.methods.synthesis.sketcher_refiner:SketcherRefiner"),
    System("scgan-us", 86, "Spatially conditioned GAN", "synthesis", "Hu et al., 2017",
           "fetal ultrasound", "2D", "simulates the ultrasound frame seen from a probe pose",
           "10.1007/978-3-319-67564-0_11", aliases=("simulator-gan",),
           module="ganatomy.methods.synthesis.scgan_us:SpatiallyConditionedGAN"),
    System("ivus-stacksim", 88, "IVUS simulator", "synthesis", "Tom & Sheet, 2018",
           "intravascular ultrasound", "2D", "simulates intravascular ultrasound from a tissue map",
           "arXiv:1712.07881"),
    System("sst", 89, "Stain-style transfer", "synthesis", "Cho et al., 2017",
           "histology", "2D", "normalises stains and preserves features of a tumour classifier",
           "arXiv:1710.08543", module="ganatomy.methods.synthesis.sst:StainStyleTransfer"),
    System("virtual-he", 90, "Virtual H&E", "synthesis", "Bayramoglu et al., 2017",
           "histology", "2D", "stains unstained hyperspectral tissue virtually",
           None, module="ganatomy.methods.synthesis.virtual_he:VirtualHE"),
    System("adv-stain-transfer", 91, "Adversarial stain transfer", "synthesis", "BenTaieb & Hamarneh, 2018",
           "histology", "2D", "transfers stains, trained together with a diagnostic network",
           None),
    System("staingan", 92, "StainGAN", "synthesis", "Shaban et al., 2018",
           "histology", "2D", "transfers stains between laboratories, learned without pairs",
           "arXiv:1804.01601", module="ganatomy.methods.synthesis.staingan:StainGAN"),
    System("twod-microscopy", 93, "Two-discriminator GAN", "synthesis", "Han & Yin, 2017",
           "live-cell microscopy", "2D", "translates between phase contrast and DIC with two discriminators",
           None, module="ganatomy.methods.synthesis.twod_microscopy:TwoDiscriminatorGAN", aliases=("pc-dic-gan",)),
    System("vessel-geometry-wgan", 94, "Vessel-geometry WGAN", "synthesis", "Wolterink et al., 2018",
           "coronary CT", "1D", "samples the geometry of coronary arteries along their axis",
           "arXiv:1804.04381", module="ganatomy.methods.synthesis.vessel_geometry_wgan:VesselGeometryWGAN"),
    System("sgan-mra", 95, "Steerable GAN", "synthesis", "Olut et al., 2018",
           "brain MRI to MRA", "2D", "predicts MRA from T1 and T2 MRI with a steerable-filter loss",
           "arXiv:1804.04366", module="ganatomy.methods.synthesis.sgan_mra:SteerableGAN"),
    System("nodule-cgan3d", 96, "Lung-nodule cGAN", "synthesis", "Jin et al., 2018",
           "chest CT", "3D", "inserts a synthetic nodule into a real lung",
           "10.1007/978-3-030-00934-2_81"),

    System("gan", 2, "GAN", "frameworks", "Goodfellow et al., 2014",
           "any", "2D/3D", "samples images from noise with a generator and a discriminator",
           "arXiv:1406.2661", module="ganatomy.methods.frameworks.gan:GAN"),
    System("dcgan", 6, "DCGAN", "frameworks", "Radford et al., 2016",
           "any", "2D/3D", "samples images from noise with convolutional networks",
           "arXiv:1511.06434", module="ganatomy.methods.frameworks.dcgan:DCGAN"),
    System("cgan", 7, "Conditional GAN", "frameworks", "Mirza & Osindero, 2014",
           "any", "2D/3D", "samples images of a given label or other side information",
           "arXiv:1411.1784", module="ganatomy.methods.frameworks.cgan:CGAN"),
    System("pix2pix", 4, "pix2pix", "frameworks", "Isola et al., 2017",
           "any", "2D", "translates images, learned from aligned pairs",
           "arXiv:1611.07004", module="ganatomy.methods.frameworks.pix2pix:Pix2Pix"),
    System("mgan", 9, "Markovian GAN", "frameworks", "Li & Wand, 2016",
           "any", "2D", "transfers texture with a discriminator of local patches",
           "arXiv:1604.04382", module="ganatomy.methods.frameworks.mgan:MGAN"),
    System("cyclegan", 10, "CycleGAN", "frameworks", "Zhu et al., 2017",
           "any", "2D", "translates images, learned without pairs",
           "arXiv:1703.10593", module="ganatomy.methods.frameworks.cyclegan:CycleGAN"),
    System("ac-gan", 11, "AC-GAN", "frameworks", "Odena et al., 2017",
           "any", "2D/3D", "samples images of a class; the discriminator also classifies",
           "arXiv:1610.09585", aliases=("acgan",),
           module="ganatomy.methods.frameworks.ac_gan:ACGAN"),
    System("wgan", 12, "WGAN", "frameworks", "Arjovsky et al., 2017",
           "any", "2D/3D", "samples images, with a weight-clipped Wasserstein critic",
           "arXiv:1701.07875", module="ganatomy.methods.frameworks.wgan:WGAN"),
    System("wgan-gp", None, "WGAN-GP", "frameworks", "Gulrajani et al., 2017",
           "any", "2D/3D", "samples images, with a Wasserstein critic and a gradient penalty",
           "arXiv:1704.00028", module="ganatomy.methods.frameworks.wgan_gp:WGANGP"),
    System("lsgan", 13, "LSGAN", "frameworks", "Mao et al., 2017",
           "any", "2D/3D", "samples images, with least-squares losses",
           "arXiv:1611.04076", module="ganatomy.methods.frameworks.lsgan:LSGAN"),
    System("lapgan", None, "LAPGAN", "frameworks", "Denton et al., 2015",
           "any", "2D", "samples images from coarse to fine along a Laplacian pyramid",
           "arXiv:1506.05751", module="ganatomy.methods.frameworks.lapgan:LAPGAN"),
    System("pgan", None, "Progressive GAN", "frameworks", "Karras et al., 2018",
           "any", "2D", "samples images with networks that grow in resolution",
           "arXiv:1710.10196", module="ganatomy.methods.frameworks.pgan:PGAN"),
    System("aae", None, "Adversarial autoencoder", "frameworks", "Makhzani et al., 2015",
           "any", "2D", "encodes images; a discriminator matches the codes to a prior",
           "arXiv:1511.05644", "ganatomy.methods.frameworks.aae:AAE"),
    System("vae-gan", None, "VAE-GAN", "frameworks", "Larsen et al., 2016",
           "any", "2D", "encodes images; errors are measured in discriminator features",
           "arXiv:1512.09300", "ganatomy.methods.frameworks.vae_gan:VAEGAN"),
    System("srgan", 27, "SRGAN", "frameworks", "Ledig et al., 2017",
           "any", "2D", "super-resolves single images with perceptual realism",
           "arXiv:1609.04802", module="ganatomy.methods.frameworks.srgan:SRGAN"),
)
# fmt: on

_BY_NAME = {name: system for system in SYSTEMS for name in (system.slug, *system.aliases)}
_BY_TITLE = {system.title.lower(): system for system in SYSTEMS}


def resolve(name: "str | System | type[Any]") -> System:
    """Return the system that a user names; this may import code.

    Args:
        name: a slug or alias, in upper or lower case; a name that an installed package has registered; a method as
            `package.module:Class` or `path/to/file.py:Class`; the class of a method; or a system, which is returned
            unchanged.

    Raises:
        UserError: there is no such system, file, module or class, or the class is no method or cannot be imported.
    """
    if isinstance(name, System):
        return name
    if isinstance(name, type):
        return _of_class(name)
    if not isinstance(name, str):
        raise UserError(f"a system is named by a text or the class of a method, and not by a {type(name).__name__}")
    if name.endswith(".py"):
        raise UserError(f"{name}: name the class of the method, too, as {name}:Class")
    if ":" not in name:
        return known(name)
    place, _, attr = name.rpartition(":")
    if not place.endswith(".py"):
        return _outside(name, name)
    # The folder is left out of the name, since a copy of the file in another folder is the same method.
    return _outside(f"{Path(place).name}:{attr}", name)


def known(name: str) -> System:
    """Return the system with this name in the catalogue or among installed packages; no other code is imported.

    Args:
        name: a slug or alias, in upper or lower case, or a name that an installed package has registered.

    Raises:
        UserError: there is none, and the message gives the nearest names; or a registered class cannot be used.
    """
    system = _BY_NAME.get(name.lower())
    if system is not None:
        return system
    entries = registered(METHODS)
    if name in entries:
        return _outside(name, entries[name].value)
    nearest = _nearest(name, entries)
    guess = f"did you mean {' or '.join(nearest)}? " if nearest else ""
    raise UserError(f"unknown system '{name}'; {guess}'ganatomy list' shows all")


def registered(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group that installed packages have registered, by name; nothing is imported."""
    return {entry.name: entry for entry in entry_points(group=group)}


def _of_class(cls: type[Any]) -> System:
    """Return the system of a class: its row, the name under which it is registered, or its module and name.

    Raises:
        UserError: the class is no complete method, or is defined where no name leads to it.
    """
    place = f"{cls.__module__}:{cls.__qualname__}"
    if "<locals>" in place:
        raise UserError(f"{cls.__name__}: defined in a function; define it in a module, or in a cell of its own")
    registered_as = next((name for name, entry in registered(METHODS).items() if entry.value == place), None)
    script = getattr(sys.modules.get(cls.__module__), "__file__", None) if cls.__module__ == "__main__" else None
    return _outside(registered_as or (f"{Path(script).name}:{cls.__qualname__}" if script else place), place)


def _nearest(name: str, entries: Mapping[str, EntryPoint]) -> list[str]:
    # Titles count too: "sagan" means sagan-ct. A cutoff of 0.75 catches typing errors, but not names that are
    # merely related, such as "wgan-gp" for "wgn-vgg".
    slugs = {called: system.slug for called, system in (_BY_TITLE | _BY_NAME).items()} | {one: one for one in entries}
    names = difflib.get_close_matches(name.lower(), slugs, n=3, cutoff=0.75)
    return list(dict.fromkeys(slugs[one] for one in names))


def _outside(slug: str, place: str) -> System:
    """Return a method that is named by its place: its catalogue row if it has one, else as its class describes it.

    Args:
        slug: name of the method in run files.
        place: file or module, and class.

    Raises:
        UserError: the class cannot be imported, or is no complete method.
    """
    cls: Any = attribute(place)
    if not _is_method(cls):
        raise UserError(f"{place}: not a method; name a class that extends ganatomy.game.Method")
    module = f"{cls.__module__}:{cls.__qualname__}"
    if ours := next((system for system in SYSTEMS if system.module == module), None):
        return ours
    missing = [*sorted(cls.__abstractmethods__), *([] if hasattr(cls, "Config") else ["Config"])]
    if missing:
        raise UserError(f"{place}: not a complete method; it lacks {', '.join(missing)}")
    told = [" ".join(part.split()).removesuffix(".") for part in inspect.cleandoc(cls.__doc__ or "").split("\n\n")]
    what, authors = told[0] or f"what {slug} does", told[1] if len(told) > 1 else "unpublished"
    found = IDENTIFIER.search(authors)
    identifier = (found[1] or f"arXiv:{found[2]}") if found else None
    # Rows of the catalogue begin in lower case; a sentence that begins with a name keeps its capital.
    what = what[0].lower() + what[1:] if what[1:2].islower() else what
    dims: Dims = SEEN.get(cls.dims, "2D/3D")
    return System(slug, None, cls.__name__, "outside", authors, "any", dims, what, identifier, module)


def _is_method(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, attribute("ganatomy.game:Method"))


def load(name: str) -> type[Any]:
    """Return the class of the system that a user names.

    Raises:
        UserError: as for `resolve`, or the system is only planned.
    """
    return resolve(name).cls


def attribute(place: str) -> Any:
    """Import and return the object that `package.module:Name` or `path/to/file.py:Name` names.

    Raises:
        UserError: there is no such file or module, it has no such name, or importing it fails.
    """
    where, _, name = place.rpartition(":")
    module = _module_of(where) if where.endswith(".py") else where
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            raise UserError(f"{place}: no module called {error.name} is installed") from None
        raise UserError(f"{where}: cannot be imported: {_reason(error)}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            there = [one for one, value in vars(found).items() if getattr(value, "__module__", None) == module]
            nearest = difflib.get_close_matches(part, there, n=1)
            guess = f"; did you mean {nearest[0]}?" if nearest else ""
            raise UserError(f"{place}: there is no {part} in {where}{guess}")
        found = getattr(found, part)
    return found


def _module_of(file: str) -> str:
    """Return the module name of a file, after making its folder importable as if the file were run.

    Raises:
        UserError: there is no such file, or another module has its name.
    """
    path = Path(os.path.expanduser(file)).resolve()  # noqa: PTH111 - unlike the method of a path, never fails
    if not path.is_file():
        raise UserError(f"{file}: no such file")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # at the end, so that no installed module is hidden
    importlib.invalidate_caches()
    try:
        found = importlib.util.find_spec(path.stem)
    except (ImportError, ValueError):
        found = None
    if found is None or found.origin is None or Path(found.origin).resolve() != path:
        other = f", {found.origin}" if found and found.has_location else ""
        raise UserError(f"{file}: Python has another module called {path.stem}{other}; rename the file")
    return path.stem


def _reason(error: BaseException) -> str:
    """Return an error on one line, with the file and line that raised it."""
    said = " ".join(f"{type(error).__name__}: {error}".split())
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    inside = [frame for frame in frames if frame.filename != __file__]
    if isinstance(error, SyntaxError) or not inside:
        return said
    return f"{said} ({Path(inside[-1].filename).name}, line {inside[-1].lineno})"


def source_of(cls: Any) -> str | None:
    """Return the SHA-256 digest of the source file of a class from outside ganatomy; None for a class of ganatomy."""
    if cls.__module__.partition(".")[0] == "ganatomy":
        return None
    try:
        path = inspect.getsourcefile(cls)
    except (TypeError, OSError):  # defined in a notebook
        path = None
    return f"sha256:{hashlib.sha256(Path(path).read_bytes()).hexdigest()}" if path else None


def ready() -> list[System]:
    """Return the systems that can be loaded, in the survey's order."""
    return [system for system in SYSTEMS if system.state == "ready"]


def match(pattern: str) -> list[System]:
    """Return the systems whose slug, alias, section or modality fits a shell pattern such as "seg*".

    A text without wildcards fits wherever it occurs. Case is ignored; the result is in the survey's order, and empty
    when nothing fits.
    """
    wanted = pattern.lower() if set("*?[") & set(pattern) else f"*{pattern.lower()}*"
    return [
        system
        for system in SYSTEMS
        if any(
            fnmatchcase(text.lower(), wanted)
            for text in (system.slug, *system.aliases, system.section, system.modality)
        )
    ]
