import random

import pytest
from timm.data import ImageNetInfo
from torchvision.datasets import Imagenette
from torchvision.models import ResNet18_Weights

from ddoq.data import REGISTRIES, ClassRegistry, imagenet_indices, load_registry
from ddoq.data.known_registries import check_folders, source_labels
from ddoq.errors import UserError

SIZES = (1000, 100, 10, 10, 200, 10, 100)
PARTS = ("imagenet-100", "imagenette", "imagewoof", "tiny-imagenet")
WORDNET = ImageNetInfo("imagenet-1k")
# What ILSVRC/imagenet-1k calls its labels: the words of the synset, and the second crane apart from the first.
HUB_NAMES = [*WORDNET.label_descriptions()]
HUB_NAMES[517] = "crane2"


@pytest.mark.parametrize(("name", "size"), [*zip(REGISTRIES, SIZES, strict=True)])
def test_every_registry_is_whole_sorted_and_unambiguous(name, size):
    classes = load_registry(name, prompt="{name}")
    assert len(classes) == size
    assert classes.keys == sorted(classes.keys)
    assert len({prompt.casefold() for prompt in classes.prompts}) == size
    assert all(text == text.strip() and text for text in classes.names)


def test_imagenet_has_the_order_of_timm_and_of_torchvision():
    classes = load_registry("imagenet-1k")
    assert classes.keys == WORDNET.label_names()
    # Torchvision has names without ids: each must be among the WordNet words of the id at its place. It spells two apart.
    spelt = {134: "crane", 639: "maillot"}
    for index, name in enumerate(ResNet18_Weights.IMAGENET1K_V1.meta["categories"]):
        words = WORDNET.index_to_description(index).split(", ")
        assert spelt.get(index, name) in words, index


def test_names_keep_a_word_that_wordnet_has_for_the_class():
    """A name that was put on the wrong line would share no telling word with its synset and definition."""
    vague = {"dog", "bird", "cat", "fish", "insect", "lizard", "monkey", "of", "car", "machine"}
    elsewhere = {7: "cock", 913: "wreck"}  # our own words for them are rooster and shipwreck
    for item in load_registry("imagenet-1k"):
        told = WORDNET.label_name_to_description(item.key, detailed=True).casefold()
        own = item.name.casefold().replace("-", " ").split()
        telling = [elsewhere.get(item.index, ""), *(word.rstrip("s") for word in own)]
        assert any(word and word in told for word in telling if word not in vague), item


@pytest.mark.parametrize(
    ("index", "wnid", "name"),
    [
        (0, "n01440764", "tench"),
        (134, "n02012849", "crane bird"),
        (517, "n03126707", "construction crane"),
        (264, "n02113186", "Cardigan Welsh corgi"),
        (474, "n02963159", "cardigan sweater"),
        (638, "n03710637", "maillot one-piece swimsuit"),
        (639, "n03710721", "maillot tank suit"),
        (836, "n04355933", "sunglass"),
        (837, "n04356056", "pair of sunglasses"),
        (657, "n03773504", "missile"),
        (744, "n04008634", "projectile"),
        (97, "n01847000", "drake duck"),
        (21, "n01608432", "kite bird of prey"),
        (242, "n02108089", "boxer dog"),
        (998, "n13133613", "ear of corn"),
        (999, "n15075141", "toilet tissue"),
    ],
)
def test_known_traps_of_imagenet(index, wnid, name):
    item = load_registry("imagenet-1k")[index]
    assert (item.key, item.name) == (wnid, name)


def test_parts_carry_the_names_and_numbers_of_the_whole():
    whole = load_registry("imagenet-1k")
    for part in PARTS:
        classes = load_registry(part)
        numbers = imagenet_indices(classes)
        assert numbers == sorted(set(numbers))
        assert [whole[number].name for number in numbers] == classes.names
    assert imagenet_indices(whole) == list(range(1000))


def test_parts_hold_the_classes_of_their_sources():
    assert load_registry("imagenette").keys == list(Imagenette._WNID_TO_CLASS)
    dogs = ["Shih-Tzu dog", "Rhodesian ridgeback", "beagle", "English foxhound", "Border terrier"]
    dogs += ["Australian terrier", "golden retriever", "Old English sheepdog", "Samoyed dog"]
    assert load_registry("imagewoof").names == [*dogs, "dingo wild dog"]
    hundred = load_registry("imagenet-100")
    # The first and the last line of CMC's list, and two classes that the first 100 of ImageNet have and it has not.
    assert {"n02869837", "n01749939", "n01855672", "n02090622"} <= set(hundred.keys)
    assert not {"n01440764", "n01443537"} & set(hundred.keys)


def test_cifar_has_its_own_order_not_that_of_super_classes():
    assert load_registry("cifar10").keys[:4] == ["airplane", "automobile", "bird", "cat"]
    classes = load_registry("cifar100")
    known = {0: "apple", 4: "beaver", 23: "cloud", 30: "dolphin", 55: "otter", 99: "worm"}
    assert {label: classes[label].key for label in known} == known
    assert classes[classes.index_of("aquarium_fish")].prompt == "a photo of a aquarium fish"


def test_prompts_and_names_can_be_told_otherwise():
    classes = load_registry("imagewoof", prompt="{name}", names=[f"dog {i}" for i in range(10)])
    assert (classes[3].key, classes[3].prompt) == ("n02089973", "dog 3")
    with pytest.raises(UserError, match="class_names has 2 names, but there are 10 classes"):
        load_registry("imagewoof", names=["a", "b"])
    with pytest.raises(UserError, match=r"Unknown registry 'imagewof'.*imagewoof"):
        load_registry("imagewof")


def test_imagenet_numbers_of_other_classes_are_refused():
    mixed = ClassRegistry(["n01440764", "n00000001"], names=["tench", "unicorn"])
    with pytest.raises(
        UserError, match=r"1 of 2 classes are not among the 1000.*n00000001 \(unicorn\).*registry"
    ):
        imagenet_indices(mixed)
    with pytest.raises(UserError, match=r"10 of 10 classes.*WordNet ids such as n01440764"):
        imagenet_indices(load_registry("cifar10"))
    assert imagenet_indices(ClassRegistry(["n03126707", "n02012849"])) == [517, 134]


@pytest.mark.parametrize("names", [HUB_NAMES, WORDNET.label_names()], ids=["words", "ids"])
def test_a_source_in_the_right_order_is_taken(names):
    assert source_labels("imagenet-1k", names, "it") == list(range(1000))
    for part in PARTS:
        assert source_labels(part, names, "it") == imagenet_indices(load_registry(part))


def test_torchvisions_and_our_own_names_are_recognised():
    categories = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    categories = ["crane" if c == "crane bird" else c for c in categories]
    categories[639] = "maillot, tank suit"
    assert source_labels("imagenet-1k", categories, "it") == list(range(1000))
    assert source_labels("imagewoof", load_registry("imagewoof").names, "it") == list(range(10))


@pytest.mark.parametrize("pair", [(836, 837), (638, 639), (657, 744), (264, 474), (0, 999)])
def test_two_classes_exchanged_are_refused(pair):
    first, second = pair
    names = list(HUB_NAMES)
    names[first], names[second] = names[second], names[first]
    # `Cardigan` is a word for the cardigan as well, so that the exchange shows at the dog's name only.
    with pytest.raises(UserError, match=f"it is not in the order.*label ({first}|{second}) is "):
        source_labels("imagenet-1k", names, "it")


def test_every_permutation_of_ids_is_refused():
    keys = load_registry("imagewoof").keys
    for seed in range(20):
        mixed = random.Random(seed).sample(keys, len(keys))
        if mixed != keys:
            first = next(i for i in range(10) if mixed[i] != keys[i])
            other = keys.index(mixed[first])
            with pytest.raises(
                UserError,
                match=rf"label {first} is '{mixed[first]}', which is class {other} there; class {first} is {keys[first]}",
            ):
                source_labels("imagewoof", mixed, "it")


def test_cifar_in_super_class_order_and_with_the_hubs_misprint():
    keys = load_registry("cifar100").keys
    assert source_labels("cifar100", [{"crab": "cra"}.get(k, k) for k in keys], "it") == list(
        range(100)
    )
    animals = ["beaver", "dolphin", "otter", "seal", "whale"]
    by_super_class = [*animals, *(key for key in keys if key not in animals)]
    with pytest.raises(
        UserError, match="label 0 is 'beaver', which is class 4 there; class 0 is apple"
    ):
        source_labels("cifar100", by_super_class, "it")
    with pytest.raises(UserError, match="label 7 is 'unicorn', which no class there is called"):
        source_labels("cifar100", [*keys[:7], "unicorn", *keys[8:]], "it")
    with pytest.raises(UserError, match=r"it has 10 classes.*cifar100 has 100"):
        source_labels("cifar100", keys[:10], "it")


def test_folders_missing_and_strange_are_named(tmp_path):
    keys = load_registry("imagewoof").keys
    check_folders("imagewoof", keys, tmp_path)
    check_folders("imagewoof", WORDNET.label_names(), tmp_path)
    with pytest.raises(
        UserError,
        match=r"no folder for 1 of the 10 .*imagewoof: n02115641 \(dingo wild dog\)\. Compl",
    ):
        check_folders("imagewoof", keys[:-1], tmp_path)
    with pytest.raises(UserError, match=r"no class of imagewoof: n9999\. Move them away"):
        check_folders("imagewoof", [*keys, "n9999"], tmp_path)
    with pytest.raises(UserError, match="Its folders are numbers: whether number 0 is n02086240"):
        check_folders("imagewoof", [f"{i:05d}" for i in range(10)], tmp_path)
    with pytest.raises(UserError, match="no class of cifar10: n01440764"):
        check_folders("cifar10", [*load_registry("cifar10").keys, "n01440764"], tmp_path)
