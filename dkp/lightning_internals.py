"""Every use of a name of Lightning's that is not public; because of them pyproject.toml bounds its releases."""

from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.core.mixins import hparams_mixin


def from_command_line() -> bool:
    """Whether a module is being made by the command line, which has its configuration."""
    return hparams_mixin._given_hyperparameters.get() is not None


class RunProgressBar(RichProgressBar):
    """Lightning's progress bar, with the number of epochs only where there is one."""

    def _get_train_description(self, current_epoch: int) -> str:
        text = super()._get_train_description(current_epoch)
        return text.replace("/-2", "") if self.trainer.max_epochs == -1 else text
