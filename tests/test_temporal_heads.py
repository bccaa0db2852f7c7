"""Heads over windows of every kind: padding is nothing, order counts, and a film's numbers are those of the rows."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from test_windows import VA, make_place, settings_of, table_of

from mien.bundles.engines import open_engine
from mien.bundles.gate import inspect_network
from mien.bundles.plan import HeadsStep, Window
from mien.systems.recording import Recording, WindowHead
from mien.tasks import TASKS
from mien.train.bundle.system import write_head
from mien.train.loop import fit, network_of
from mien.train.networks.heads import make_head
from mien.train.runs.inference import inputs_of, raw_scores
from mien.train.settings.network import OVER_TIME, HeadSettings

pytestmark = pytest.mark.usefixtures("one_thread")


def make(kind, width_in=6, **options):
    torch.manual_seed(1)
    settings = HeadSettings(kind=kind, width=8, **options)
    return make_head(settings, width_in, TASKS["va"])


@pytest.mark.parametrize("kind", OVER_TIME)
@pytest.mark.parametrize("layers", [None, 3])
def test_padding_and_other_windows_change_nothing(kind, layers):
    head = make(kind, layers=layers).eval()
    windows, lengths = torch.randn(70, 17, 6), torch.randint(1, 18, (70,))
    padded = windows.clone()
    for window, length in zip(padded, lengths, strict=True):
        window[length:] = torch.nan
    raw = head(padded)
    assert raw.shape == (70, 17, 2)
    for output, window, length in zip(raw, windows, lengths, strict=True):
        alone = head(window[None, :length])
        torch.testing.assert_close(output[:length], alone[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(head.unpadded(window[None, :length]), alone)


@pytest.mark.parametrize("kind", OVER_TIME)
def test_padding_gives_finite_gradients_to_all_weights(kind):
    head = make(kind).train()
    windows = torch.randn(3, 9, 6)
    windows[0, 4:] = torch.nan
    head(windows)[0, :4].sum().backward()
    for name, weight in head.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name


@pytest.mark.parametrize("kind", OVER_TIME)
def test_frames_on_both_sides_are_read(kind):
    head = make(kind).eval()
    window = torch.randn(1, 9, 6, requires_grad=True)
    head(window)[0, 4].sum().backward()
    assert (window.grad.abs().sum(dim=2) > 0).all()


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_convolutions_reach_as_far_as_their_layers_say(layers):
    head = make("tcn", layers=layers).eval()
    window = torch.randn(1, 31, 6, requires_grad=True)
    head(window)[0, 15].sum().backward()
    read = torch.nonzero(window.grad.abs().sum(dim=2)[0])[:, 0]
    reach = 2**layers - 1
    assert (read.min(), read.max()) == (15 - reach, 15 + reach)


@pytest.mark.parametrize("length", [1, 2, 7, 64])
def test_a_minimal_gru_is_its_recurrence_frame_by_frame(length):
    head = make("minimal_gru", layers=1).eval()
    window = torch.randn(1, length, 6)
    directions = []
    for gates, order in (
        (head.forwards[0], range(length)),
        (head.backwards[0], reversed(range(length))),
    ):
        state, states = torch.zeros(8), {}
        for t in order:
            update, candidate = gates(window[0, t]).split(8)
            keep = 1 / (1 + torch.exp(-update))
            state = keep * state + (1 - keep) * torch.tanh(candidate)
            states[t] = state
        directions.append(torch.stack([states[t] for t in range(length)]))
    expected = torch.cat(directions, dim=1).clamp(min=0)
    torch.testing.assert_close(head.features(window)[0], expected, atol=1e-6, rtol=1e-5)


def in_order(count, length, generator):
    """Windows (N, T, 2) of noise, and what they ask for: the first numbers of the four frames before, less the second ones of the four after."""
    windows = torch.randn(count, length, 2, generator=generator)
    first = torch.nn.functional.pad(windows[..., 0], (4, 0))
    second = torch.nn.functional.pad(windows[..., 1], (0, 4))
    before = sum(first[:, i : i + length] for i in range(4))
    after = sum(second[:, i : i + length] for i in range(1, 5))
    return windows, (before - after) / 4


@pytest.mark.parametrize("kind", OVER_TIME)
def test_what_depends_on_the_order_of_frames_is_learned(kind):
    """The target is independent of its own frame, and of any frames whose order is not known."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    settings = HeadSettings(kind=kind, width=32, dropout=None if kind == "sequence" else 0.0)
    head = make_head(settings, 2, TASKS["va"])
    optimiser = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(250):
        windows, target = in_order(16, 20, generator)
        loss = ((head(windows)[..., 0] - target) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    windows, target = in_order(64, 20, generator)
    shuffled = windows[:, torch.randperm(20, generator=generator)]
    # Relative to the error of a constant.
    with torch.no_grad():
        errors = [
            float(((head.eval()(frames)[..., 0] - target) ** 2).mean() / target.var())
            for frames in (windows, shuffled)
        ]
    assert errors[0] < 0.5
    assert errors[1] > 0.9


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("heads"), train=[30] * 6, val=[33, 33, 5, 12])


@pytest.mark.parametrize(
    ("kind", "options"),
    [(kind, {"squash": True}) for kind in OVER_TIME] + [("minimal_gru", {"bins": 20, "layers": 1})],
)
def test_a_film_read_frame_by_frame_has_the_numbers_of_the_rows(place, tmp_path, kind, options):
    head = HeadSettings(kind=kind, width=8, **options)
    losses = {"losses": {"va": {"kind": "bins"}}} if "bins" in options else {}
    run = fit(settings_of(place, head=head, fit={"epochs": 2}, **losses), tmp_path / "run")
    path = tmp_path / "head.onnx"
    written = write_head(run, path)
    assert written.window == Window(length=12, gap=1)
    network = path.read_bytes()
    for frames in (1, 12, 300):
        assert inspect_network("head", network, (1, frames, 16), ("va",)).work > 0
    engine = open_engine(network, "onnxruntime", 1)

    # Any number of windows of any length.
    net = network_of(run)
    [module] = net.heads
    for shape in ((3, 2, 16), (1, 7, 16), (2, 150, 16)):
        windows = torch.randn(*shape)
        with torch.no_grad():
            raw = module(windows)
            expected = raw if module.bins is None else module.bins.decode(raw)
        [computed] = engine.run(windows.numpy())
        np.testing.assert_allclose(computed, expected.numpy(), atol=1e-4)

    table = table_of(place, "val")
    inputs = inputs_of(table, [VA], run.settings)
    scores = VA.decode(raw_scores(net, inputs, workers=0)[0]["va"])
    numbers = inputs.faces.__getitems__(range(len(table)))[0].numpy()

    def read(window):
        [values] = engine.run(window[None].astype(np.float32))
        return {"va": VA.decode(values[0])}

    for _, video in table.groupby("video"):
        rows = video.sort_values("frame")
        steps = {"a": HeadsStep.model_construct(do="heads", member="one")}
        recording = Recording(steps, "a", [WindowHead("a", "one", written.window, read)])
        answers = []
        for row, frame in zip(rows.index, rows["frame"], strict=True):
            answers += recording.add(int(frame), {}, {"one": numbers[row]})
        answers += recording.close()
        streamed = np.stack([answer["va"] for answer in answers])
        np.testing.assert_allclose(streamed, scores[rows.index], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "hidden", "layers": 2}, "layers: a hidden head reads no windows"),
        ({"kind": "tcn", "layers": 0}, "greater than or equal to 1"),
        ({"kind": "transformer", "width": 30}, "width: 30 does not divide"),
        ({"kind": "sequence", "dropout": 0.1}, "dropout: a sequence head"),
    ],
)
def test_options_of_heads_over_time_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        HeadSettings(**options)
