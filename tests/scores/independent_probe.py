"""What independent implementations make of given arrays: independent_probe.py GIVEN.npz FOUND.npz
[inception-2015 weights] [inception-v3 weights]."""
import sys

import numpy as np
import torch

operators = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    operators.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import pytorch_fid.inception  # noqa: E402
import torchvision  # noqa: E402
from pytorch_fid.fid_score import calculate_frechet_distance  # noqa: E402
from torch_fidelity import metric_fid  # noqa: E402
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # noqa: E402
from torch_fidelity.metric_isc import isc_features_to_metric  # noqa: E402
from torch_fidelity.metric_kid import kid_features_to_metric  # noqa: E402
from torchmetrics.image.fid import _compute_fid  # noqa: E402
from torchmetrics.image.inception import InceptionScore  # noqa: E402
from torchmetrics.image.kid import poly_mmd  # noqa: E402


def metrics(given, found):
    logits = torch.from_numpy(given["logits"])
    for splits in (1, 10):
        for shuffle in (False, True):
            made = isc_features_to_metric(logits, splits, shuffle, 2020)
            found[f"torch-fidelity/isc/{splits}/{shuffle}"] = np.array(
                [made["inception_score_mean"], made["inception_score_std"]])

    class Given(torch.nn.Module):
        def forward(self, x):
            return logits[:, :]
    score = InceptionScore(feature=Given(), splits=1)
    score.features.append(logits)
    found["torchmetrics/isc/1"] = np.array(float(score.compute()[0]))

    a, b = given["features_a"], given["features_b"]
    moments = [(f.mean(0), np.cov(f, rowvar=False)) for f in (a, b)]
    found["pytorch-fid/fid"] = np.array(calculate_frechet_distance(*moments[0], *moments[1]))
    t = [torch.from_numpy(part) for pair in moments for part in pair]
    found["torchmetrics/fid"] = np.array(float(_compute_fid(t[0], t[1], t[2], t[3])))
    statistics = [metric_fid.fid_features_to_statistics(torch.from_numpy(f)) for f in (a, b)]
    found["torch-fidelity/fid"] = np.array(
        metric_fid.fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"])
    made = kid_features_to_metric(
        torch.from_numpy(a), torch.from_numpy(b), kid_subsets=5, kid_subset_size=50,
        rng_seed=2020, verbose=False)
    found["torch-fidelity/kid"] = np.array([made["kernel_inception_distance_mean"],
                                            made["kernel_inception_distance_std"]])
    found["torchmetrics/kid"] = np.array(float(poly_mmd(torch.from_numpy(a[:150]),
                                                        torch.from_numpy(b[:150]))))


def networks(given, found, of_2015, of_v3):
    pictures = torch.from_numpy(given["pictures"])
    extractor = FeatureExtractorInceptionV3("x", ["2048", "logits_unbiased"], of_2015)
    with torch.inference_mode():
        features, logits = extractor(pictures)
        found["torch-fidelity/features"] = features.numpy()
        found["torch-fidelity/logits"] = logits.numpy()
        # Its weights would come from the network; here from the file. Everything else is its own.
        pytorch_fid.inception.load_state_dict_from_url = lambda *a, **k: torch.load(
            of_2015, weights_only=True)
        network = pytorch_fid.inception.InceptionV3(resize_input=False, normalize_input=False)
        prepared = torch.from_numpy(given["prepared_2015"])
        found["pytorch-fid/features"] = network.eval()(prepared)[0].reshape(len(prepared), -1)
        network = torchvision.models.inception_v3(
            weights=None, init_weights=False, aux_logits=False, transform_input=False).eval()
        network.load_state_dict(torch.load(of_v3, weights_only=True))
        held = []
        network.avgpool.register_forward_hook(lambda module, x, y: held.append(y.flatten(1)))
        found["torchvision/logits"] = network(torch.from_numpy(given["prepared_v3"])).numpy()
        found["torchvision/features"] = held[0].numpy()


given, found = dict(np.load(sys.argv[1], allow_pickle=False)), {}
metrics(given, found)
if sys.argv[3:]:
    networks(given, found, *sys.argv[3:])
np.savez(sys.argv[2], **{name: np.asarray(value) for name, value in found.items()})
