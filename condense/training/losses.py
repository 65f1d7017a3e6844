"""What training minimises.

    L = w T² KL(softmax(t / T) ‖ softmax(s / T)) + (1 - w) CE(s, labels)

G. Hinton, O. Vinyals, J. Dean: Distilling the Knowledge in a Neural Network, 2015. T² keeps the
size of the gradient when T changes. KL is the mean over images of the sum over classes.
"""

from torch import Tensor
from torch.nn import functional as F

from condense.training.config import TrainConfig


def loss_of(student: Tensor, teacher: Tensor | None, labels: Tensor, config: TrainConfig) -> Tensor:
    """Loss of a batch of logits; cross-entropy alone without a teacher.

    Shape:
        Logits (N, classes), labels (N,) -> ().
    """
    student = student.float()
    truth = F.cross_entropy(student, labels, label_smoothing=config.label_smoothing)
    if teacher is None:
        return truth
    imitation = distillation(student, teacher.float(), config.temperature)
    return config.teacher_weight * imitation + (1 - config.teacher_weight) * truth


def loss_of_both(
    outputs: Tensor | tuple[Tensor, Tensor],
    teacher: Tensor | None,
    labels: Tensor,
    config: TrainConfig,
) -> Tensor:
    """The loss of a network that may have a second head: L + `auxiliary_weight` times that one's.

    Shape:
        Logits (N, classes), or two of them; labels (N,) -> ().
    """
    if isinstance(outputs, Tensor):
        return loss_of(outputs, teacher, labels, config)
    main, auxiliary = (loss_of(logits, teacher, labels, config) for logits in outputs)
    return main + config.auxiliary_weight * auxiliary


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² KL(softmax(t / T) ‖ softmax(s / T)).

    Shape:
        Logits (N, classes) twice -> ().
    """
    found = F.log_softmax(student / temperature, dim=1)
    wanted = F.log_softmax(teacher / temperature, dim=1)
    divergence = F.kl_div(found, wanted, reduction="batchmean", log_target=True)
    return divergence * temperature**2
