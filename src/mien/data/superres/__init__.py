"""Pictures of a training set made larger and sharper by a network.

HSEmotion did so with synthetic faces at ABAW4. `superresolve` does a whole folder, `upscaler` one
picture. The engine that comes with the extra ``sr`` is `Ncnn`: Real-ESRGAN x4plus (Wang et al.
2021, arXiv:2107.10833) on the CPU. `mien.train.superres.Spandrel` runs other networks, and needs
torch.

Licences: the weights of Real-ESRGAN x4plus are BSD-3-Clause (its authors' repository); the package
that carries them in ncnn's format is MIT, ncnn is BSD-3-Clause. What such a network draws is a
guess at detail, not a measurement: use it on training data.
"""

from mien.data.superres.folder import MANIFEST, Report, superresolve
from mien.data.superres.realesrgan import Ncnn
from mien.data.superres.upscale import Engine, Network, upscaler

__all__ = ["MANIFEST", "Engine", "Ncnn", "Network", "Report", "superresolve", "upscaler"]
