"""Spaces: what counts as draws, what is said of what does not, and the points they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dncbench.errors import DrawsError, NotApplicableError
from dncbench.space import KINDS, Codes, Outputs, Real, Space

NAMES = ("first", "second")
OWNER = "method 'mine'"


def one_hot(codes: np.ndarray) -> np.ndarray:
    return np.eye(5)[codes]


def bits(codes: np.ndarray) -> np.ndarray:
    """60 coordinates of zeros and ones."""
    return (codes[:, None] >> np.arange(60)) & 1


def from_bits(points: np.ndarray) -> np.ndarray:
    return points.astype(np.int64) @ (np.int64(1) << np.arange(60))


ETA = Real(NAMES, "unconstrained", lambda eta: jnp.exp(eta))
THETA = Real(NAMES, "natural")
FIVE = Codes(tuple("abcde"), "codes", 5, one_hot, lambda points: points.argmax(1))
MANY = Codes(tuple(map(str, range(60))), "codes", None, bits, from_bits)
OUTPUTS = Outputs(NAMES, "outputs")


def test_kinds_are_what_methods_may_name() -> None:
    assert {space.kind for space in (ETA, FIVE, OUTPUTS)} == set(KINDS)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("space", [ETA, THETA, OUTPUTS], ids=lambda space: space.name)
@pytest.mark.parametrize("shape", [(7, 2), (8, 3), (8,), (8, 2, 1), ()])
def test_points_of_another_shape_are_refused(space: Space, shape: tuple) -> None:
    with pytest.raises(DrawsError) as caught:
        space.check(np.zeros(shape), 8, OWNER)
    assert str(caught.value) == f"{OWNER} returned draws of shape {shape}, not (8, 2)"


@pytest.mark.parametrize("space", [ETA, THETA, OUTPUTS], ids=lambda space: space.name)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_named(space: Space, bad: float) -> None:
    draws = np.zeros((8, 2))
    draws[3, 1] = draws[5, 0] = bad
    with pytest.raises(DrawsError) as caught:
        space.check(jnp.asarray(draws), 8, OWNER)
    where = "(row 3, coordinate 1 (second))"
    assert str(caught.value) == f"{OWNER} returned a non-finite draw {where} from finite draws"


@pytest.mark.parametrize("shape", [(7,), (8, 1), ()])
def test_codes_of_another_shape_are_refused(shape: tuple) -> None:
    with pytest.raises(DrawsError) as caught:
        FIVE.check(np.zeros(shape, int), 8, OWNER)
    assert str(caught.value) == f"{OWNER} returned draws of shape {shape}, not (8,)"


@pytest.mark.parametrize("dtype", [np.float64, np.float32, bool, complex])
def test_codes_that_are_no_whole_numbers_are_refused(dtype: type) -> None:
    with pytest.raises(DrawsError) as caught:
        FIVE.check(np.zeros(8, dtype), 8, OWNER)
    told = f"{OWNER} returned draws of dtype {np.dtype(dtype)}; objects are coded by whole numbers"
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("space", "bad", "range_"),
    [(FIVE, 5, "0 to 4"), (FIVE, -1, "0 to 4"), (MANY, -1, "0 to any number")],
)
def test_a_code_of_no_object_is_named(space: Codes, bad: int, range_: str) -> None:
    codes = np.arange(8) % 5
    codes[6:] = bad
    with pytest.raises(DrawsError) as caught:
        space.check(codes, 8, OWNER)
    assert str(caught.value) == f"{OWNER} returned the code {bad} (row 6); codes go from {range_}"


def test_a_code_that_does_not_fit_is_refused_not_wrapped() -> None:
    with pytest.raises(DrawsError, match="returned the code 18446744073709551615"):
        MANY.check(np.full(3, 2**64 - 1, np.uint64), 3, OWNER)


# ---------------------------------------------------------------- what is kept


@pytest.mark.parametrize("space", [ETA, THETA, OUTPUTS], ids=lambda space: space.name)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_points_become_float64(space: Space, dtype: type) -> None:
    draws = np.arange(16).reshape(8, 2).astype(dtype)
    for given in (draws, jnp.asarray(draws), draws.tolist()):
        found = space.check(given, 8, OWNER)
        assert type(found) is np.ndarray
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, draws)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int32, np.uint32])
def test_codes_beyond_what_floats_tell_apart_are_kept(dtype: type) -> None:
    # float32 takes 2^24 and 2^24 + 1 for one number, float64 2^53 and 2^53 + 1.
    most = {8: 2**53, 4: 2**24}[np.dtype(dtype).itemsize]
    codes = np.array([0, 1, 2**24, 2**24 + 1, most, most + 1], dtype)
    for given in (codes, jnp.asarray(codes)):
        found = MANY.check(given, 6, OWNER)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, codes.astype(np.int64))
    assert len(set(found.tolist())) == len(set(codes.tolist()))
    # What is kept for later metrics must not merge them either.
    np.testing.assert_array_equal(MANY.unpack(MANY.pack(found)), found)


@pytest.mark.parametrize("offset", [0.0, 3e4, 1e6, -1e12])
@pytest.mark.parametrize("space", [Real(("a", "b"), "given"), Outputs(("a", "b"), "outputs")])
def test_kept_points_have_seven_digits_of_their_spread(space: Space, offset: float) -> None:
    scale = np.array([0.0016, 1e-6 + abs(offset) * 1e-9])
    draws = offset + scale * np.random.default_rng(1).standard_normal((500, 2))
    packed = space.pack(draws)
    assert packed["draws"].dtype == np.float32
    # float32 has a relative error of 6e-8; no draw is more than 4 sds from the mean. The rest is
    # how finely float64 knows points so far from zero at all.
    allowed = 4 * 6e-8 * scale + 2 * np.spacing(abs(offset))
    assert np.all(np.abs(space.unpack(packed) - draws).max(0) <= allowed)


def test_a_constant_coordinate_is_kept() -> None:
    space = Real(("a", "b"), "given")
    draws = np.column_stack([np.full(9, 7.0), np.arange(9.0)])
    # Within four sds of the mean, to float32's seven digits.
    np.testing.assert_allclose(space.unpack(space.pack(draws)), draws, atol=4 * 6e-8 * 2.6)


@pytest.mark.parametrize(
    "spoilt",
    [
        {"draws": np.zeros((5, 3), np.float32)},
        {"location": np.array([np.nan, 0.0])},
        {"scale": np.zeros(3)},
    ],
)
def test_kept_points_of_another_space_are_told(spoilt: dict[str, np.ndarray]) -> None:
    space = Real(("a", "b"), "given")
    packed = space.pack(np.random.default_rng(2).standard_normal((5, 2)))
    with pytest.raises(ValueError, match=r"its draws|broadcast"):
        space.unpack(packed | spoilt)


def test_complex_draws_are_refused() -> None:
    with pytest.raises(DrawsError, match="dtype complex128; parameters are real"):
        Real(("a",), "given").check(np.zeros((3, 1), complex), 3, OWNER)


# ---------------------------------------------------------------- points and back


def test_the_points_of_eta_are_natural_parameters() -> None:
    eta = np.random.default_rng(0).standard_normal((8, 2))
    points = ETA.embed(eta)
    assert points.dtype == np.float64
    np.testing.assert_allclose(points, np.exp(eta), rtol=1e-15)
    with pytest.raises(NotApplicableError, match="cannot be turned into real"):
        ETA.project(points)


@pytest.mark.parametrize("space", [THETA, OUTPUTS], ids=lambda space: space.name)
def test_points_that_stand_for_themselves_come_back(space: Space) -> None:
    draws = np.random.default_rng(1).standard_normal((8, 2))
    points = space.embed(space.check(draws, 8, OWNER))
    assert points.dtype == np.float64
    np.testing.assert_array_equal(points, draws)
    np.testing.assert_array_equal(space.check(space.project(points), 8, OWNER), draws)


@pytest.mark.parametrize(
    ("space", "codes"),
    [(FIVE, np.arange(5)), (MANY, np.array([0, 1, 2**24, 2**24 + 1, 2**53, 2**53 + 1]))],
    ids=["counted", "uncounted"],
)
def test_objects_come_back_from_their_points(space: Codes, codes: np.ndarray) -> None:
    points = space.embed(space.check(codes, len(codes), OWNER))
    assert points.shape == (len(codes), len(space.names))
    assert points.dtype == np.float64
    back = space.check(space.project(points), len(codes), OWNER)
    np.testing.assert_array_equal(back, codes)


def test_objects_without_a_way_back_say_so() -> None:
    there = Codes(tuple("abcde"), "codes", 5, one_hot)
    with pytest.raises(NotApplicableError, match="cannot be turned into codes"):
        there.project(np.eye(5))


def test_embedding_is_one_draw_at_a_time() -> None:
    eta = np.random.default_rng(2).standard_normal((8, 2))
    for space, draws in ((ETA, eta), (THETA, eta), (FIVE, np.arange(5)), (OUTPUTS, eta)):
        order = np.random.default_rng(3).permutation(len(draws))
        np.testing.assert_array_equal(space.embed(draws[order]), space.embed(draws)[order])


def test_jax_keeps_codes_whole() -> None:
    """Methods hold codes as JAX's arrays, which are of 64 bits here."""
    codes = jnp.asarray(np.array([2**53, 2**53 + 1]))
    assert codes.dtype == jnp.int64
    assert int(jax.jit(lambda codes: codes[1] - codes[0])(codes)) == 1
