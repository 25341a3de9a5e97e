# The public names, and the modules that they are in. Read by type checkers and by __init__.py.

from .activations.shards import Activations as Activations, ActivationShards as ActivationShards
from .saes.encoding import encode_shards as encode_shards, open_codes as open_codes
from .matching.decoder_similarity import (
    Similarity as Similarity,
    load_similarity as load_similarity,
    novel_latents as novel_latents,
    similarity as similarity,
)
from .base.errors import StudyError as StudyError
from .saes.evaluation import evaluate as evaluate
from .figures.figure4 import figure4 as figure4, figure4_table as figure4_table
from .figures.figure5 import figure5 as figure5, figure5_table as figure5_table
from .figures.figure13 import figure13 as figure13, figure13_table as figure13_table
from .figures.style import save_figure as save_figure
from .formats.saelens import export_saelens as export_saelens
from .stitching.greedy import GreedyLatents as GreedyLatents, greedy_latents as greedy_latents
from .stitching.insertions import (
    Insertions as Insertions,
    insertion_effects as insertion_effects,
    load_insertions as load_insertions,
)
from .stitching.pairs import EvalPair as EvalPair, open_pair as open_pair
from .formats.pretrained import load_sae as load_sae
from .stitching.roc import (
    NoveltyROC as NoveltyROC,
    load_roc as load_roc,
    novelty_roc as novelty_roc,
)
from .saes.sae import SAE as SAE, save_sae as save_sae
from .sparse.codes import SparseCodes as SparseCodes
from .stitching.stitched import (
    StitchedSAE as StitchedSAE,
    inference_threshold as inference_threshold,
    with_threshold as with_threshold,
)
from .matching.subgraphs import (
    Subgraphs as Subgraphs,
    connected_subgraphs as connected_subgraphs,
    load_subgraphs as load_subgraphs,
)
from .stitching.swaps import Swaps as Swaps, load_swaps as load_swaps, swap_effects as swap_effects
from .stitching.threshold import (
    ThresholdCurve as ThresholdCurve,
    load_threshold_curve as load_threshold_curve,
    threshold_curve as threshold_curve,
)
from .saes.training import Trainer as Trainer, TrainingConfig as TrainingConfig
from .stitching.transitions import (
    Transition as Transition,
    load_transition as load_transition,
    load_transition_step as load_transition_step,
    transition as transition,
)

__version__: str
