import pytest

from ddoq.costs.workload import Sizes, Stage, assignment_flops, image_bytes, network_flops

SIZES = Sizes(10, 100, 50, 16, 12)


def test_sizes_come_from_the_dataset(coloured_noise):
    data = coloured_noise(classes=3, per_class=20)
    sizes = Sizes.of(data)
    assert (sizes.num_classes, sizes.train_images, sizes.test_images) == (3, 60, 60)
    assert (sizes.image_size, sizes.largest_class, sizes.mean) == (8, 20, data.mean)


def test_one_unknown_network_makes_the_sum_unknown():
    known, quantiser = Stage("a", "net", 3, 10), Stage("quantise", "", 0, 99)
    assert network_flops([known, quantiser]) == 10
    assert network_flops([known, Stage("b", "net", 1, None)]) is None
    assert network_flops([]) == 0
    assert network_flops(None) is None


def test_image_bytes():
    assert image_bytes(SIZES, 4) == 10 * 4 * 3 * 16 * 16


@pytest.mark.parametrize(
    ("quantizer", "products"),
    [
        ({"method": "lloyd", "restarts": 2, "passes": 1}, 600),  # at most 300 iterations each
        ({"method": "clvq", "restarts": 1, "passes": 4}, 5),  # and a final assignment
        ({"method": "random", "restarts": 1, "passes": 1}, 1),
    ],
)
def test_bounds_of_quantisation(quantizer, products):
    assert assignment_flops(100, 5, 8, quantizer) == products * 2 * 100 * 5 * 8


def test_lloyd_stops_where_the_bound_says():
    import inspect

    from ddoq.costs.workload import MAX_ITERATIONS
    from ddoq.quantization import quantize

    assert inspect.signature(quantize).parameters["max_iterations"].default == MAX_ITERATIONS
