"""The small-image stem: first layers that keep the resolution."""

from torch import nn

from ddoq.errors import UserError

# Above it the first map would be four times as large as the architecture was made for, or more.
LARGEST_SMALL_IMAGE = 64

STEMS = ("small",)


def use_small_stem(network: nn.Module, name: str, image_size: int) -> None:
    """Make the first layers of a network of timm or torchvision keep the resolution, in place.

    ResNets get a 3x3 convolution of stride 1 for the 7x7 one of stride 2, and no max-pooling (He et al.,
    2016, section 4.2, and all of this field at 32 and 64 pixels; SRe2L squeezes CIFAR-100 and Tiny-ImageNet so).
    MobileNets and EfficientNets keep their first convolution at stride 1, so that their weights keep their shapes.

    Args:
        network: A ResNet (ResNeXt, SE-ResNet, ...), MobileNet or EfficientNet of timm or torchvision.
        name: Its name, for the message.
        image_size: Side of the images in pixels.

    Raises:
        UserError: If the images are large or the architecture has no such stem.
    """
    from timm.models.efficientnet import EfficientNet
    from timm.models.mobilenetv3 import MobileNetV3
    from timm.models.resnet import ResNet

    if image_size > LARGEST_SMALL_IMAGE:
        raise UserError(
            f"stem: small is for images of at most {LARGEST_SMALL_IMAGE} pixels, not {image_size}: "
            "leave `stem` out."
        )
    if _keep_resolution_of_torchvision(network):
        return
    if isinstance(network, ResNet):
        _keep_resolution_of_resnet(network)
    elif isinstance(network, (EfficientNet, MobileNetV3)):
        network.conv_stem.stride = (1, 1)
    else:
        raise UserError(
            f"stem: small exists for ResNets, MobileNets and EfficientNets, not for {name}: leave `stem` "
            "out (for a vision transformer, kwargs: {patch_size: 4} serves the purpose)."
        )


def _keep_resolution_of_torchvision(network: nn.Module) -> bool:
    """Do so where the network is torchvision's; say whether it is.

    A ResNet's new convolution keeps PyTorch's own initialisation, as in the scripts of SRe2L and RDED that replace it.
    """
    from torchvision import models

    if isinstance(network, models.ResNet):
        width = network.conv1.out_channels
        network.conv1 = nn.Conv2d(3, width, 3, stride=1, padding=1, bias=False)
        network.maxpool = nn.Identity()
        return True
    if isinstance(network, (models.MobileNetV2, models.MobileNetV3, models.EfficientNet)):
        first = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
        first.stride = (1, 1)
        return True
    return False


def _keep_resolution_of_resnet(network: nn.Module) -> None:
    if isinstance(network.conv1, nn.Conv2d):
        old = network.conv1
        conv = nn.Conv2d(old.in_channels, old.out_channels, 3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(
            conv.weight, mode="fan_out", nonlinearity="relu"
        )  # as timm's ResNet
        network.conv1 = conv
    else:  # the "deep" stems (ResNet-D): three 3x3 convolutions, of which the first has stride 2
        layers = network.get_submodule("conv1").modules()
        first = next(layer for layer in layers if isinstance(layer, nn.Conv2d))
        first.stride = (1, 1)
    network.maxpool = nn.Identity()
