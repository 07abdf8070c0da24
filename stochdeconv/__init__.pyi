from . import errors as errors
from . import losses as losses
from .atlas.writing import write_atlas as write_atlas
from .evaluation.compare import compare as compare
from .losses import regularizers as regularizers
from .methods.dream import dream as dream
from .methods.generate import generate as generate
from .methods.invert import invert as invert
from .methods.maximize import maximize as maximize
from .methods.morph import morph as morph
from .methods.recipe import Recipe as Recipe
from .methods.refine import refine as refine
from .methods.saliency import saliency as saliency
from .methods.sweep import sweep as sweep
from .networks.image_model import load_model as load_model
from .networks.network import Network as Network
from .optimization import parameterizations as parameterizations
from .optimization import transforms as transforms
from .optimization.descent import Descent as Descent
from .optimization.loop import optimize as optimize
from .sampling import samplers as samplers
from .statistics.collection import collect as collect
from .statistics.collection import merge as merge
from .statistics.file import load_statistics as load_statistics
from .statistics.file import save_statistics as save_statistics

__version__: str
